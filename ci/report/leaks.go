package report

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"html"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// leastSecret is the length in bytes below which a secret would be found everywhere, leastLine that of a line of one.
	// leastDigits is how long one of digits alone has to be that is not found in checksums by chance.
	leastSecret = 6
	leastLine   = 16
	leastDigits = 12
)

// openSSH begins the first line of every private key of OpenSSH's: "openssh-key-v1", in base64.
const openSSH = "b3BlbnNzaC1rZXktdjE"

// Leaks tells whether a text holds one of the secrets: as it is, in base64 (also in the middle of what is encoded), in
// hexadecimal digits, or escaped as in a URL, in JSON or in HTML, one in the other too. Of a secret of several lines
// one that is longer than 16 bytes is enough, except for the frame of a PEM. Secrets of less than 6 bytes are not
// looked for, and those of less than 12 digits and nothing else not within other digits or letters.
func Leaks(text string, secrets []string) bool {
	views := unescaped(text)
	for _, secret := range secrets {
		for _, needle := range needles(secret) {
			for _, v := range views {
				if v.holds(needle) {
					return true
				}
			}
		}
	}
	return false
}

// Filter is a writer that passes lines on, but for those that hold a secret. Close passes on what has no end.
type Filter struct {
	Out     io.Writer
	Secrets []string
	rest    []byte
	long    bool // more of the line was than is kept
}

// longestLine is how much of a line is kept, in bytes.
const longestLine = 1 << 20

func (f *Filter) Write(text []byte) (int, error) {
	f.rest = append(f.rest, text...)
	for {
		end := bytes.IndexByte(f.rest, '\n') + 1
		if end == 0 {
			if len(f.rest) > longestLine {
				f.rest, f.long = f.rest[:0], true
			}
			return len(text), nil
		}
		if f.long {
			f.rest, f.long = append([]byte("(the end of a long line)\n"), f.rest[end:]...), false
			continue
		}
		if err := f.pass(f.rest[:end]); err != nil {
			return 0, err
		}
		f.rest = f.rest[end:]
	}
}

// Close ends the last line.
func (f *Filter) Close() error {
	if len(f.rest) == 0 {
		return nil
	}
	err := f.pass(append(f.rest, '\n'))
	f.rest = nil
	return err
}

func (f *Filter) pass(line []byte) error {
	if Leaks(string(line), f.Secrets) {
		line = []byte("(a line with a secret in it)\n")
	}
	_, err := f.Out.Write(line)
	return err
}

// needles are the texts that give a secret away.
func needles(secret string) []string {
	secret = strings.TrimSpace(secret)
	if len(secret) < leastSecret {
		return nil
	}
	found := []string{secret}
	for line := range strings.Lines(secret) {
		line = strings.TrimSpace(line)
		if len(line) > leastLine && !strings.HasPrefix(line, "-----") && !strings.HasPrefix(line, openSSH) {
			found = append(found, line)
		}
	}
	return found
}

// view is a text as one reads it who undoes an escaping.
type view struct {
	text string
	// tight is the text without blanks and line ends, of which encoded text may be full.
	tight, lower string
}

func (v view) holds(needle string) bool {
	contains := strings.Contains
	if len(needle) < leastDigits && strings.Trim(needle, "0123456789") == "" {
		contains = func(text, number string) bool { return HoldsWord(text, number, "") }
	}
	if contains(v.text, needle) || strings.Contains(v.lower, hex.EncodeToString([]byte(needle))) {
		return true
	}
	for _, core := range base64Cores(needle) {
		if strings.Contains(v.tight, core) {
			return true
		}
	}
	return false
}

// HoldsWord tells whether a word stands in a text, and not as a part of a longer one, which letters, digits and these
// others make.
func HoldsWord(text, word, others string) bool {
	partOf := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(others, r) }
	for end := 0; ; {
		i := strings.Index(text[end:], word)
		if i < 0 || word == "" {
			return word == "" // which tells nothing
		}
		last, _ := utf8.DecodeLastRuneInString(text[:end+i])
		end += i + len(word)
		next, _ := utf8.DecodeRuneInString(text[end:])
		if !partOf(last) && !partOf(next) {
			return true
		}
	}
}

// base64Cores are the digits that do not depend on what stands before and after, for each place where the text can
// begin among the groups of three bytes. Padding is none of them.
func base64Cores(text string) []string {
	var cores []string
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00\x00"[:before] + text))
		first, end := (before*8+5)/6, (before+len(text))*8/6
		core := encoded[first:end]
		cores = append(cores, core, strings.NewReplacer("+", "-", "/", "_").Replace(core))
	}
	return cores
}

// unescaped is the text, and what it becomes when one or two of the escapings are undone.
func unescaped(text string) []view {
	const deep = 2
	seen := map[string]bool{}
	var views []view
	level := []string{text}
	for range deep + 1 {
		var next []string
		for _, text := range level {
			if seen[text] {
				continue
			}
			seen[text] = true
			tight := strings.Join(strings.Fields(text), "")
			views = append(views, view{text: text, tight: tight, lower: strings.ToLower(tight)})
			next = append(next, unescapeURL(text), unescapeURL(strings.ReplaceAll(text, "+", " ")), unescapeJSON(text),
				html.UnescapeString(text))
		}
		level = next
	}
	return views
}

var (
	urlEscape  = regexp.MustCompile(`%[0-9a-fA-F]{2}`)
	jsonEscape = regexp.MustCompile(`\\(?:u[0-9a-fA-F]{4}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?|["\\/bfnrt])`)
)

// unescapeURL undoes what it can; the library's would refuse a text that holds any other per cent sign.
func unescapeURL(text string) string {
	return urlEscape.ReplaceAllStringFunc(text, func(escape string) string {
		b, err := strconv.ParseUint(escape[1:], 16, 8)
		if err != nil {
			return escape
		}
		return string([]byte{byte(b)})
	})
}

// unescapeJSON undoes the escapes of JSON's strings, wherever they stand.
func unescapeJSON(text string) string {
	return jsonEscape.ReplaceAllStringFunc(text, func(escape string) string {
		switch escape[1] {
		case 'b':
			return "\b"
		case 'f':
			return "\f"
		case 'n':
			return "\n"
		case 'r':
			return "\r"
		case 't':
			return "\t"
		case 'u':
			var units []uint16
			for _, digits := range strings.Split(escape, `\u`)[1:] {
				unit, err := strconv.ParseUint(digits, 16, 16)
				if err != nil {
					return escape
				}
				units = append(units, uint16(unit))
			}
			return string(utf16.Decode(units))
		}
		return escape[1:]
	})
}
