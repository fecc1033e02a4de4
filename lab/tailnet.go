package main

import (
	"context"

	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/headscale"
)

// tailnetDomain is the suffix of the devices' names in the tailnet.
const tailnetDomain = "tail.lab.test"

// headscale is the tailnet's control server. The program is needed to start it alone.
func (s *state) headscale(program string) *headscale.Server {
	return &headscale.Server{
		Dir: s.path("headscale"), Program: program, Address: machine.HostIP, Domain: tailnetDomain,
		Certificate: s.path("tls", "server.crt"), CertificateKey: s.path("tls", "server.key"),
		CA: s.path("tls", "ca.crt"),
	}
}

// devices are those of the tailnet that are not the machine. Program and tailnet are needed to start one alone.
func (s *state) devices(program string, tailnet machine.Tailnet) *machine.Devices {
	return &machine.Devices{
		Dir: s.path("devices"), Runner: s.runner(), Program: program, LoginServer: s.headscale("").URL(),
		CA:     s.path("tls", "ca.crt"),
		Domain: tailnetDomain, Tailnet: tailnet,
	}
}

// controlServer starts headscale, before the emulated API that stands in front of it.
func (l *lab) controlServer(ctx context.Context) error {
	if err := l.certificates(); err != nil {
		return err
	}
	return l.headscale(l.set.Headscale).Start(ctx, l.runner)
}

// operator joins the device on which the person works who runs the program.
func (l *lab) operator(ctx context.Context) error {
	control, err := l.headscale("").Client()
	if err != nil {
		return err
	}
	return l.devices(l.set.Tailscale, control).Start(ctx, machine.Operator)
}
