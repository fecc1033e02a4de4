package machine

// tailscaledUnit is upstream's, as the Debian package brings it.
const tailscaledUnit = `[Unit]
Description=Tailscale node agent
Documentation=https://tailscale.com/docs/
Wants=network-pre.target
After=network-pre.target NetworkManager.service systemd-resolved.service

[Service]
EnvironmentFile=/etc/default/tailscaled
ExecStart=/usr/sbin/tailscaled --state=/var/lib/tailscale/tailscaled.state \
	--socket=/run/tailscale/tailscaled.sock --port=${PORT} $FLAGS
ExecStopPost=/usr/sbin/tailscaled --cleanup

Restart=on-failure

RuntimeDirectory=tailscale
RuntimeDirectoryMode=0755
StateDirectory=tailscale
StateDirectoryMode=0700
CacheDirectory=tailscale
CacheDirectoryMode=0750
Type=notify

[Install]
WantedBy=multi-user.target
`

// authority is where a host keeps a certificate authority of its own. tailscaled is told of it in its environment, as a
// person does whose control server has a private one.
const authority = "usr/local/share/ca-certificates/tinyrack-lab.crt"

// noLogs keeps the daemon that upstream released from sending its log to upstream. The lab's own has no such part.
const noLogs = "TS_NO_LOGS_NO_SUPPORT=true"

func tailscaleFiles(ca string) []entry {
	return []entry{
		{authority, ca, 0o644},
		{"usr/lib/systemd/system/tailscaled.service", tailscaledUnit, 0o644},
		{"etc/default/tailscaled", "PORT=\"41641\"\nFLAGS=\"\"\nSSL_CERT_FILE=/" + authority + "\n" + noLogs + "\n", 0o644},
	}
}

// The package has two programs; here one may be both, by the name that it is called by.
const tailscaleDaemon, tailscaleCommand = "usr/sbin/tailscaled", "usr/bin/tailscale"

var tailscaleLinks = map[string]string{
	"etc/systemd/system/multi-user.target.wants/tailscaled.service": "/usr/lib/systemd/system/tailscaled.service",
}
