package k3s

import (
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

// fakeBinary is k3s of a version: it says so, and takes snapshots while it is at work.
func fakeBinary(version string) string {
	return `#!/bin/sh
case "$*" in
--version) echo "${0##*/} version ` + version + ` (abcdef)"; echo "go version go1.24.2" ;;
"etcd-snapshot save --name "*)
	[ -f "$ROOT/state/active" ] && [ ! -f "$ROOT/state/no-snapshot" ] || { echo "no server" >&2; exit 1; }
	echo "$4" >>"$ROOT/state/snapshots" ;;
*) exit 64 ;;
esac`
}

// fakeInstall is an install script that does what the flags of k3s' own ask for. What it makes removes itself, whatever
// became of the rest, as k3s' own does.
const fakeInstall = `#!/bin/sh
[ "$INSTALL_K3S_SKIP_DOWNLOAD$INSTALL_K3S_SKIP_START" = truetrue ] || exit 1
[ -x "$ROOT/usr/local/bin/k3s" ] && [ ! -f "$ROOT/state/install-fails" ] || exit 1
case $INSTALL_K3S_EXEC in server) unit=k3s ;; agent) unit=k3s-agent ;; *) exit 1 ;; esac
mkdir -p "$ROOT/etc/systemd/system"
echo "[Service]" >"$ROOT/etc/systemd/system/$unit.service"
cat >"$ROOT/usr/local/bin/$unit-uninstall.sh" <<END
rm -f "\$ROOT/usr/local/bin/$unit-uninstall.sh" "\$ROOT/etc/systemd/system/$unit.service" "\$ROOT/state/active"
[ -f "\$ROOT/state/uninstall-leaves" ] || rm -rf "\$ROOT/var/lib/rancher"
[ ! -f "\$ROOT/state/uninstall-fails" ] || exit 3
rm -f "\$ROOT/usr/local/bin/k3s"
rm -rf "\$ROOT/etc/rancher"
END
echo run >>"$ROOT/state/installs"
echo "noise on stdout"`

// fakeSystemctl starts k3s: it makes what k3s makes, at the machine's address 192.0.2.1 or at node-ip.
const fakeSystemctl = `case $1 in
is-active) [ -f "$ROOT/state/active" ] ;;
show) cat "$ROOT/state/active" 2>/dev/null ;;
daemon-reload) cat "$ROOT"/etc/systemd/system/*.d/*.conf >"$ROOT/state/loaded" 2>/dev/null || true ;;
restart)
	[ "$(cat "$ROOT"/etc/systemd/system/*.d/*.conf 2>/dev/null)" = "$(cat "$ROOT/state/loaded" 2>/dev/null)" ] || {
		echo "units were changed on disk" >&2
		exit 6
	}
	[ "$2" = --no-block ] && [ -f "$ROOT/etc/systemd/system/$3.service" ] || exit 5
	[ ! -f "$ROOT/state/never-starts" ] || exit 0
	id=$(($(cat "$ROOT/state/starts" 2>/dev/null || echo 0) + 1))
	echo $id >"$ROOT/state/starts"; echo $id >"$ROOT/state/active"
	d=$ROOT/var/lib/rancher/k3s; mkdir -p "$d/agent/etc/cni/net.d" "$ROOT/state/nodes"
	[ -f "$d/agent/kubelet.kubeconfig" ] || echo agent >"$d/agent/kubelet.kubeconfig"
	[ -f "$d/agent/etc/cni/net.d/10-flannel.conflist" ] || echo {} >"$d/agent/etc/cni/net.d/10-flannel.conflist"
	[ -f "$d/agent/client-kubelet.crt" ] || echo x >"$d/agent/client-kubelet.crt"
	if [ "$3" = k3s ]; then
		mkdir -p "$d/server/db" "$d/server/tls"
		[ -f "$d/server/tls/client-admin.crt" ] || echo x >"$d/server/tls/client-admin.crt"
		[ -f "$d/server/token" ] || printf 'K10aaaa::server:%s\n' "$(cat "$ROOT/etc/rancher/k3s/token")" >"$d/server/token"
		echo admin >"$ROOT/etc/rancher/k3s/k3s.yaml"
	fi
	name=$(sed -n 's/^node-name: //p' "$ROOT/etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml")
	[ -f "$ROOT/state/never-ready" ] ||
		"$ROOT/usr/local/bin/k3s" --version | sed -n 's/^k3s version \([^ ]*\).*/True \1/p' >"$ROOT/state/nodes/$name"
	if [ "$3" = k3s ]; then
		# etcd knows a member by the address that it joined with.
		address=$(sed -n 's/^node-ip: //p' "$ROOT/etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml")
		: >"$ROOT/state/nodes/$name.etcd"
		[ -f "$ROOT/state/nodes/$name.address" ] || echo "${address:-192.0.2.1}" >"$ROOT/state/nodes/$name.address"
		[ "${address:-192.0.2.1}" = "$(cat "$ROOT/state/nodes/$name.address")" ] || touch "$ROOT/state/broken"
	fi
	[ -f "$ROOT/state/stubborn" ] || rm -f "$ROOT/state/expiring" ;;
*) exit 64 ;;
esac`

// fakeKubectl is the API of the server on the machine. state/nodes/<name> holds "Ready version", <name>.etcd, .removed
// and .address what their names say. The API of a server that etcd let go no longer answers.
const fakeKubectl = `kubeconfig=
for a; do case $a in
--kubeconfig=*) kubeconfig=${a#*=}; shift ;;
--request-timeout=*) shift ;;
*) set -- "$@" "$a"; shift ;;
esac; done
[ -f "$ROOT$kubeconfig" ] || { echo "no $kubeconfig" >&2; exit 1; }
[ -f "$ROOT/state/active" ] && [ ! -f "$ROOT/state/broken" ] || { echo "connection refused" >&2; exit 1; }
nodes=$ROOT/state/nodes
mkdir -p "$nodes"
case "$*" in
"get --raw /readyz") echo ok ;;
"get node "*" --ignore-not-found -o jsonpath=node {.metadata.annotations.etcd\.k3s\.cattle\.io/removed-node-name}")
	[ ! -f "$nodes/$3" ] || printf 'node %s' "$(cat "$nodes/$3.removed" 2>/dev/null)" ;;
"get node "*" -o jsonpath={.metadata.annotations.etcd\.k3s\.cattle\.io/node-address}")
	[ -f "$nodes/$3" ] && cat "$nodes/$3.address" 2>/dev/null || true ;;
"get node "*" -o jsonpath="*".status} {.status.nodeInfo.kubeletVersion}")
	cat "$nodes/$3" ;;
"get node "*" -o jsonpath={.status.conditions"*)
	read -r ready version <"$nodes/$3" && echo "$ready" ;;
"get nodes -l node-role.kubernetes.io/etcd=true -o jsonpath={range .items[*]}{.metadata.name}"*)
	for n in "$nodes"/*.etcd; do
		[ ! -f "$n" ] || basename "$n" .etcd
	done ;;
"get nodes -o jsonpath={range .items[*]}{.metadata.name}|{.metadata.labels.node-role\.kubernetes\.io/etcd}|"*)
	for n in "$nodes"/*; do
		case $n in *.*) continue ;; esac
		[ -f "$n" ] || continue
		etcd=; [ ! -f "$n.etcd" ] || etcd=true
		read -r ready version <"$n"
		echo "${n##*/}|$etcd|$(cat "$n.removed" 2>/dev/null)|$ready"
	done ;;
"delete node "*" --ignore-not-found --timeout=180s")
	[ ! -f "$ROOT/state/no-delete" ] || exit 1
	rm -f "$nodes/$3" "$nodes/$3".* ;;
"drain "*" --ignore-daemonsets --delete-emptydir-data --force --timeout=120s") [ ! -f "$ROOT/state/no-drain" ] ;;
"annotate node "*" etcd.k3s.cattle.io/remove=true --overwrite")
	[ ! -f "$ROOT/state/no-annotate" ] || exit 1
	[ -f "$ROOT/state/etcd-keeps" ] || echo "$3-abcdef" >"$nodes/$3.removed" ;;
*) echo "unknown: $*" >&2; exit 64 ;;
esac`

// kill counts the commands and ends the script before one of them.
const kill = `if [ -f "$ROOT/../kill-at" ]; then
	n=0; read -r at <"$ROOT/../kill-at"; [ ! -f "$ROOT/../count" ] || read -r n <"$ROOT/../count"
	n=$((n + 1)); echo $n >"$ROOT/../count"
	[ "$n" != "$at" ] || { kill -9 "$(cat "$ROOT/../pid")"; exit 1; }
fi
`

// clock makes every look at it half a minute later.
func clock(h *remotetest.Host) {
	h.Fake("date", `n=$(cat "$ROOT/../clock" 2>/dev/null || echo 0); echo $((n + 30)) >"$ROOT/../clock"; echo "$n"`)
}

func machine(t *testing.T) *remotetest.Host {
	t.Helper()
	h := remotetest.New(t)
	h.Write("/state/install", fakeInstall)
	h.Fake("curl", kill+`for url; do :; done
case $url in https://*:6443/ping)
	p=${url#https://}; p=$ROOT/state/peer-${p%:6443/ping}; [ -f "$p" ] || exit 7
	said=$(cat "$p"); printf %s "${said:-pong}"; exit ;;
esac
while [ "$1" != -o ]; do shift; done
case $url in *'?'*) cp "$ROOT/state/k3s-${url#*\?}" "$2" ;; *) cp "$ROOT/state/install" "$2" ;; esac`)
	release(h, testVersion)
	h.Fake("systemctl", kill+fakeSystemctl)
	h.Fake("kubectl", kill+fakeKubectl)
	h.Fake("ip", `case "$*" in
"-4 route show default") echo "default via 192.0.2.254 dev eth0 proto dhcp metric 100" ;;
"-4 -o address show dev eth0 scope global")
	echo "2: eth0    inet 192.0.2.1/24 brd 192.0.2.255 scope global eth0"
	echo "2: eth0    inet 192.0.2.9/24 scope global secondary eth0" ;;
*) exit 64 ;;
esac`)
	h.Fake("journalctl", `cat "$ROOT/state/log" 2>/dev/null || echo 'fatal: the reason'`)
	h.Fake("uname", `[ "$1" = -m ] && cat "$ROOT/state/machine"`)
	h.Write("/state/machine", "x86_64\n")
	h.Fake("openssl", `[ "$1 $2 $3 $4 $5" = "x509 -checkend 7776000 -noout -in" ] && [ ! -f "$ROOT/state/expiring" ]`)
	for key, value := range map[string]string{
		"vm/overcommit_memory": "0", "vm/panic_on_oom": "0", "kernel/panic": "0", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		h.Write("/proc/sys/"+key, value+"\n")
	}
	clock(h)
	return h
}

// release makes a version of k3s downloadable.
func release(h *remotetest.Host, version string) {
	h.Write("/state/k3s-"+version, fakeBinary(version))
}
