// Package scan looks from outside at which ports of a machine answer. nmap does the looking.
package scan

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Answers is what came back from one address.
type Answers struct {
	Address string
	// Absent tells that nobody has the address, so that its silence says nothing.
	Absent bool
	// Open are the ports that something listens on, "tcp 22", sorted.
	Open []string
	// Refused is how many other ports gave an answer: a reset, or an ICMP message. Nothing listens there, and yet the
	// packet came past the firewall: a listener that starts tomorrow would be reached. It is also all that most listeners
	// on UDP let be seen of a missing firewall, for they are silent to what they do not understand.
	Refused int
}

// Silent tells that the address is there and no port of it gave any answer.
func (a Answers) Silent() bool { return !a.Absent && len(a.Open) == 0 && a.Refused == 0 }

func (a Answers) String() string {
	if a.Absent {
		return a.Address + " is not there"
	}
	return fmt.Sprintf("%s: open [%s], %d more answer", a.Address, strings.Join(a.Open, ", "), a.Refused)
}

// ports are the arguments that say which ports are tried, and how fast. nmap would adapt to a network that loses
// packets, which takes minutes where nobody answers; what a busy computer loses is sent again. With twice as many
// packets a second it loses answers of a machine that answers everything.
type ports []string

var (
	everyTCP  = ports{"-sS", "-p-", "--min-rate=10000", "--max-retries=1", "--max-scan-delay=5ms"}
	commonUDP = ports{"-sU", "--top-ports=1000", "--min-rate=2000", "--max-retries=1"}
)

func someTCP(numbers []int) ports {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return ports{"-sS", "-p" + strings.Join(words, ","), "--min-rate=200", "--max-retries=1"}
}

// Whole tries every TCP port and the 1000 most common UDP ports of each address, from a network namespace. An address
// of either family has to be on its link.
func Whole(ctx context.Context, namespace string, addresses ...string) ([]Answers, error) {
	return run(ctx, namespace, addresses, everyTCP, commonUDP)
}

// TCP tries these ports alone, which takes half a second.
func TCP(ctx context.Context, namespace string, numbers []int, addresses ...string) ([]Answers, error) {
	return run(ctx, namespace, addresses, someTCP(numbers))
}

// atOnce is how many nmaps run at a time: with more, packets would be lost to their number.
const atOnce = 8

// run returns the answers of each address, in their order.
func run(ctx context.Context, namespace string, addresses []string, what ...ports) ([]Answers, error) {
	answers, errs := make([]Answers, len(addresses)), make([]error, len(addresses)*len(what))
	free := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	var lock sync.Mutex
	for i, address := range addresses {
		answers[i].Address = address
		for j, some := range what {
			group.Go(func() {
				free <- struct{}{}
				defer func() { <-free }()
				got, err := nmap(ctx, namespace, address, some)
				errs[i*len(what)+j] = err
				lock.Lock()
				defer lock.Unlock()
				answers[i].add(got)
			})
		}
	}
	group.Wait()
	for i := range answers {
		slices.Sort(answers[i].Open)
	}
	return answers, errors.Join(errs...)
}

func (a *Answers) add(other Answers) {
	a.Absent = a.Absent || other.Absent
	a.Open, a.Refused = append(a.Open, other.Open...), a.Refused+other.Refused
}

func nmap(ctx context.Context, namespace, address string, what ports) (Answers, error) {
	args := command(namespace, address, what)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // a fixed command
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return Answers{}, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	answers, err := read(stdout.Bytes())
	if err != nil || !answers.Silent() {
		return answers, err
	}
	// Somebody who is there has at least said what his link address is: no firewall of ours forbids that.
	neighbour, err := exec.CommandContext(ctx, "ip", "-n", namespace, //nolint:gosec // a fixed command
		"neighbour", "show", "to", address).Output()
	if err != nil {
		return answers, fmt.Errorf("neighbours in %s: %w", namespace, err)
	}
	answers.Absent = !strings.Contains(string(neighbour), " lladdr ")
	return answers, nil
}

// command is the line that tries ports of an address. The address is taken for one that is there: a firewall that is
// shut answers no question about that. The packets are handed to the kernel, which finds the way as for any program.
func command(namespace, address string, what ports) []string {
	line := slices.Concat([]string{"ip", "netns", "exec", namespace, "nmap", "-n", "-Pn", "--send-ip", "-oX", "-"}, what)
	if strings.Contains(address, ":") {
		line = append(line, "-6")
	}
	return append(line, address)
}

type state struct {
	State  string `xml:"state,attr"`
	Reason string `xml:"reason,attr"`
}

// report is the part of nmap's output that is looked at (https://nmap.org/book/nmap-dtd.html). A state that most ports
// are in is given as a number of ports.
type report struct {
	Asked []struct {
		Ports int `xml:"numservices,attr"`
	} `xml:"scaninfo"`
	Hosts []struct {
		Ports []struct {
			Protocol string `xml:"protocol,attr"`
			Number   int    `xml:"portid,attr"`
			State    state  `xml:"state"`
		} `xml:"ports>port"`
		Rest []struct {
			State   string `xml:"state,attr"`
			Reasons []struct {
				Reason string `xml:"reason,attr"`
				Count  int    `xml:"count,attr"`
			} `xml:"extrareasons"`
		} `xml:"ports>extraports"`
	} `xml:"host"`
}

const open, silence = "open", "no-response"

// read is strict: every port that was asked for has a state, or it is no scan.
func read(text []byte) (Answers, error) {
	var r report
	if err := xml.Unmarshal(text, &r); err != nil {
		return Answers{}, fmt.Errorf("nmap's report: %w:\n%s", err, text)
	}
	if len(r.Asked) != 1 || len(r.Hosts) != 1 {
		return Answers{}, fmt.Errorf("nmap's report is not one of one protocol and one address:\n%s", text)
	}
	var answers Answers
	tried := 0
	for _, p := range r.Hosts[0].Ports {
		tried++
		switch {
		case p.State.State == open:
			answers.Open = append(answers.Open, fmt.Sprintf("%s %d", p.Protocol, p.Number))
		case p.State.Reason != silence:
			answers.Refused++
		}
	}
	for _, rest := range r.Hosts[0].Rest {
		if rest.State == open {
			return answers, fmt.Errorf("nmap's report does not name the open ports:\n%s", text)
		}
		for _, some := range rest.Reasons {
			tried += some.Count
			if some.Reason != silence {
				answers.Refused += some.Count
			}
		}
	}
	if tried != r.Asked[0].Ports {
		return answers, fmt.Errorf("nmap tried %d of %d ports: the others may be open:\n%s", tried, r.Asked[0].Ports, text)
	}
	return answers, nil
}
