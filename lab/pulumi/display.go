package pulumi

import (
	"bytes"
	"io"
	"regexp"
)

// display passes on the lines of Pulumi's output that tell a person something, and everything to the log: what began is
// left out where the end of it is shown, and so are components and providers, which do nothing themselves.
type display struct {
	out, log io.Writer
	rest     []byte
	last     string
}

var (
	quiet = regexp.MustCompile(`^@ |^ [-+~ ]+ *(tinyrack:\S+|pulumi:\S+) |` +
		`(creating|updating|deleting) \(\d+s\) *$|using pulumi-language-go from`)
	resource = regexp.MustCompile(`^( [-+~]+ +)\S+ (\S+) (creating|created|updating|updated|deleting|deleted)(.*)$`)
)

func (d *display) Write(p []byte) (int, error) {
	if _, err := d.log.Write(p); err != nil {
		return 0, err
	}
	d.rest = append(d.rest, p...)
	for {
		line, rest, found := bytes.Cut(d.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		d.rest = rest
		if err := d.line(string(line)); err != nil {
			return 0, err
		}
	}
}

func (d *display) line(line string) error {
	if quiet.MatchString(line) {
		return nil
	}
	line = resource.ReplaceAllString(line, "$1$2 $3$4")
	if line == d.last {
		return nil
	}
	d.last = line
	_, err := io.WriteString(d.out, line+"\n")
	return err
}
