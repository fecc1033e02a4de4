//go:build e2e

package main

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// TestLockOutIsTakenBack loses every new SSH connection to the public address for 130 s, from the moment that changed
// rules are on trial: the confirmation does not come in, and the machine takes the rules back.
func TestLockOutIsTakenBack(t *testing.T) {
	l := running(t)
	before := firewallNow(t, l)
	// On the machine, so that there is no race with the confirmation: the trial's own session is still open. Where the
	// packets get lost is all the same to the program.
	onMachine(t, l, `cat >/run/e2e-lose <<'SCRIPT'
seconds() { cut -d . -f 1 /proc/uptime; }
trial=/run/tinyrack/firewall-trial
until [ -d "$trial" ]; do sleep 0.01; done
began=$(seconds)
nft 'table inet e2e {
	chain lose { type filter hook input priority filter - 20; iifname eth0 tcp dport 22 ct state new drop; }
}'
while [ -d "$trial" ]; do sleep 0.1; done
echo $(($(seconds) - began)) >/run/e2e-window
sleep $((began + 130 - $(seconds)))
nft delete table inet e2e
SCRIPT
rm -f /run/e2e-window
systemd-run --quiet --collect --unit=e2e-lose sh /run/e2e-lose`)
	defer func() {
		onMachine(t, l, "systemctl stop e2e-lose 2>/dev/null; nft delete table inet e2e 2>/dev/null; rm -f /run/e2e-*")
	}()
	withHost(t, l, admitMore, func() {
		refused(t, l, l.stack.Up, "machine-tinyrack-firewall-confirm: no new connection came in once the firewall was "+
			"loaded: it is not kept, the former rules return within 2m0s")
		formerRulesReturn(t, l, before)
		if window, err := strconv.Atoi(onMachine(t, l, "cat /run/e2e-window")); err != nil || window < 110 || window > 125 {
			t.Errorf("the rules were on trial for %d s (%v)", window, err)
		}
		eventually(t, time.Minute, "SSH comes in again", func() error {
			_, err := sshTo(t.Context(), l, layout.OnOperator(), first(l), first(l).IPv4, "true")
			return err
		})
		upConverges(t, l, before)
	})
}

// TestFullDiskAtTheConfirmation fills the file system on which the rules are kept.
func TestFullDiskAtTheConfirmation(t *testing.T) {
	l := running(t)
	before := firewallNow(t, l)
	const room = "! mountpoint -q /etc/tinyrack || umount /etc/tinyrack"
	onMachine(t, l, `set -e
mount -t tmpfs -o size=64k,mode=0755 e2e /mnt
cp -a /etc/tinyrack/. /mnt
mount --bind /mnt /etc/tinyrack
umount /mnt
cat /dev/zero >/etc/tinyrack/e2e 2>/dev/null || true
! echo full >/etc/tinyrack/e2e-more 2>/dev/null`)
	defer onMachine(t, l, room)
	withHost(t, l, admitMore, func() {
		refused(t, l, l.stack.Up, "/etc/tinyrack/firewall.nft cannot be written: see whether the machine's disk is full",
			"the firewall is proven but cannot be kept: the former one returns within 120s")
		formerRulesReturn(t, l, before)
		onMachine(t, l, room)
		upConverges(t, l, before)
	})
}

// admitMore admits one more source for the first connection: with it the firewall goes on trial.
func admitMore(host map[string]any) {
	host["bootstrapSources"] = append(host["bootstrapSources"].([]any), "10.77.0.66/32")
}

// firewallNow is the machine's firewall: what the kernel has, and what is kept for the next boot.
func firewallNow(t *testing.T, l *lab) string {
	t.Helper()
	return onMachine(t, l, "nft -s list table inet tinyrack; cat /etc/tinyrack/firewall.nft")
}

// withHost does something while the settings of the lab's machine are others, as a person edits them. Then the former
// ones come back, with an up, and with them the firewall.
func withHost(t *testing.T, l *lab, edit func(host map[string]any), do func()) {
	t.Helper()
	before := firewallNow(t, l)
	change(t, l, func(config map[string]map[string]any) {
		edit(config["tinyrack:hosts"][first(l).Name].(map[string]any))
	})
	defer func() {
		succeed(t, "up") // writes the configuration anew
		if after := firewallNow(t, l); after != before {
			t.Errorf("with the former settings the firewall is\n%s\nbefore it was\n%s", after, before)
		}
	}()
	do()
}

// formerRulesReturn waits for the end of a trial.
func formerRulesReturn(t *testing.T, l *lab, before string) {
	t.Helper()
	// Two minutes after the trial began, and the seconds that it takes on a busy machine.
	eventually(t, 150*time.Second, "the former rules are back", func() error {
		if out, err := ssh(t.Context(), l, "! test -d /run/tinyrack/firewall-trial"); err != nil {
			return errors.New("the trial goes on: " + out)
		}
		return nil
	})
	if now := firewallNow(t, l); now != before {
		t.Fatalf("after the trial the firewall is\n%s\nbefore it was\n%s", now, before)
	}
}

// upConverges runs an up that brings the changed rules into force, and another one that finds nothing to do.
func upConverges(t *testing.T, l *lab, before string) {
	t.Helper()
	out := output(l)
	started := time.Now()
	if err := l.stack.Up(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("the next up converges after %s", time.Since(started).Round(time.Second))
	if now := firewallNow(t, l); now == before || strings.Count(now, "10.77.0.66") != 2 {
		t.Errorf("the changed rules are not in force and kept:\n%s", now)
	}
	if err := l.stack.PreviewUnchanged(t.Context()); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
