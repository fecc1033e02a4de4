package databases

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
)

func TestVariables(t *testing.T) {
	for want, b := range map[string]Backups{
		"https://storage.example.com 443 storage.example.com true": {Endpoint: "storage.example.com"},
		"https://storage.example.com:9000 9000 storage.example.com:9000 true": {
			Endpoint: "storage.example.com:9000", Incarnation: 1,
		},
		"http://10.0.0.1 80 10.0.0.1 false": {Endpoint: "10.0.0.1", Insecure: true, Incarnation: 2},
	} {
		b.Bucket, b.Region = "copies", "auto"
		got := b.Variables()
		var texts []string
		rest := maps.Clone(got)
		for _, name := range []string{"backups_endpoint", "backups_port", "backups_host", "backups_tls"} {
			texts = append(texts, got[name])
			delete(rest, name)
		}
		if text := strings.Join(texts, " "); text != want {
			t.Errorf("%s, want %s", text, want)
		}
		if want := map[string]string{
			"backups_bucket": "copies", "backups_region": "auto",
		}; !maps.Equal(rest, want) {
			t.Errorf("the others are %v", rest)
		}
	}
}

func TestOrigins(t *testing.T) {
	for want, o := range map[string]Origins{
		"map[incarnation:1 restore_from:none]": {Incarnation: 1},
		"map[incarnation:3 restore_from:2]":    {Incarnation: 3, From: 2},
	} {
		if got := fmt.Sprint(o.Variables()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestRecoveries applies the patches to manifests as the tree has them.
func TestRecoveries(t *testing.T) {
	b := &Backups{Endpoint: "storage.example.com:9000", Region: "auto", Bucket: "copies"}
	until := time.Date(2026, 11, 29, 14, 50, 0, 0, time.FixedZone("", 9*60*60))
	manifests := map[string]string{
		"Cluster": `{"spec": {"bootstrap": {"initdb": {"database": "d", "owner": "o",
			"postInitApplicationSQL": ["CREATE EXTENSION hstore"]}}}}`,
		"MariaDB": `{"metadata": {"name": "d", "annotations": {"databases.tinyrack.net/origin": "d/d-1", "other": "stays"}}, "spec": {}}`,
	}
	for at, wants := range map[time.Time]map[string]string{
		{}: {
			"Cluster": `{"spec": {"bootstrap": {"recovery": {"database": "d", "owner": "o", "source": "origin"}}}}`,
			"MariaDB": mariadbFrom(``),
		},
		until: {
			"Cluster": `{"spec": {"bootstrap": {"recovery": {"database": "d", "owner": "o", "source": "origin",
				"recoveryTarget": {"targetTime": "2026-11-29T05:50:00Z"}}}}}`,
			"MariaDB": mariadbFrom(`"targetRecoveryTime": "2026-11-29T05:50:00Z",`),
		},
	} {
		recoveries := b.Recoveries(at)
		if len(recoveries) != len(wants) {
			t.Errorf("%d recoveries", len(recoveries))
		}
		for _, r := range recoveries {
			patch, err := jsonpatch.DecodePatch([]byte(r.Patch))
			if err != nil {
				t.Fatal(err)
			}
			got, err := patch.Apply([]byte(manifests[r.Kind]))
			if err != nil {
				t.Fatal(err)
			}
			if !jsonpatch.Equal(got, []byte(wants[r.Kind])) {
				t.Errorf("%s/%s at %v: %s", r.Group, r.Kind, at, got)
			}
		}
	}
}

// mariadbFrom is the manifest of a MariaDB that is restored.
func mariadbFrom(until string) string {
	return `{"metadata": {"name": "d", "annotations": {"databases.tinyrack.net/origin": "d/d-1", "other": "stays",
		"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}}, "spec": {"bootstrapFrom": {"backupContentType": "Logical", ` + until + `
		"s3": {"bucket": "copies", "endpoint": "storage.example.com:9000", "region": "auto", "prefix": "d/d-1",
			"tls": {"enabled": true}, "accessKeyIdSecretKeyRef": {"name": "backup-credentials", "key": "access-key"},
			"secretAccessKeySecretKeyRef": {"name": "backup-credentials", "key": "secret-key"}},
		"restoreJob": {"metadata": {"labels": {"databases.tinyrack.net/client": "d"}},
			"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}}}}`
}

func TestBackupsAreRefused(t *testing.T) {
	valid := Backups{Endpoint: "a.example.com", Region: "auto", Bucket: "copies", Namespaces: []string{"a", "b"}}
	if err := valid.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Backups){
		`endpoint: "" is not host[:port]: no copy would leave the cluster`: func(b *Backups) { b.Endpoint = "" },
		"namespaces: none":                  func(b *Backups) { b.Namespaces = nil },
		`namespaces[1]: "a" is there twice`: func(b *Backups) { b.Namespaces = []string{"a", "a"} },
		"incarnation: -1 is below one":      func(b *Backups) { b.Incarnation = -1 },
	} {
		b := valid
		change(&b)
		if err := b.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	got := (&Backups{Region: "auto"}).Credentials(pulumi.String("access"), pulumi.String("secret"))
	if want := map[string]pulumi.StringInput{
		"access-key": pulumi.String("access"), "secret-key": pulumi.String("secret"), "region": pulumi.String("auto"),
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestVolumeCredentials(t *testing.T) {
	for want, b := range map[string]Backups{
		"https://storage.example.com":   {Endpoint: "storage.example.com"},
		"http://storage.example.com:90": {Endpoint: "storage.example.com:90", Insecure: true},
	} {
		got := b.VolumeCredentials(pulumi.String("access"), pulumi.String("secret"))
		if want := map[string]pulumi.StringInput{
			"AWS_ACCESS_KEY_ID": pulumi.String("access"), "AWS_SECRET_ACCESS_KEY": pulumi.String("secret"),
			"AWS_ENDPOINTS": pulumi.String(want),
		}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v", got)
		}
	}
}

// TestPlugin looks at what is registered and at what comes out, and that the keys stay secret.
func TestPlugin(t *testing.T) {
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		p, err := NewPlugin(ctx, "p")
		if err != nil {
			return err
		}
		var after pulumi.CustomResourceState
		return ctx.RegisterResource("test:index:After", "after", pulumi.Map{
			"server": pulumi.ToStringMapOutput(map[string]pulumi.StringOutput{
				"tls.crt": p.Server["tls.crt"].ToStringOutput(), "tls.key": p.Server["tls.key"].ToStringOutput(),
			}),
			"client": pulumi.ToStringMapOutput(map[string]pulumi.StringOutput{
				"tls.crt": p.Client["tls.crt"].ToStringOutput(), "tls.key": p.Client["tls.key"].ToStringOutput(),
			}),
		}, &after)
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	seed := recording.Get(t, "p-seed")
	if got := fmt.Sprint(seed.Plain(), seed.Parent); got != "map[length:48 special:false]p" {
		t.Errorf("the seed is %s", got)
	}
	after := recording.Get(t, "after")
	if got := fmt.Sprint(after.Secrets()); got != "[client server]" {
		t.Errorf("secret are %s", got)
	}
	for part, name := range map[string]string{"server": "barman-cloud", "client": "barman-cloud-client"} {
		data, _ := after.Plain()[part].(map[string]any)
		pair, err := tls.X509KeyPair(fmt.Append(nil, data["tls.crt"]), fmt.Append(nil, data["tls.key"]))
		if err != nil || pair.Leaf.DNSNames[0] != name {
			t.Errorf("%s: %v, %v", part, pair.Leaf, err)
		}
	}
}

// TestPluginAndOperatorKnowEachOther connects as they do: each side takes the other's certificate alone.
func TestPluginAndOperatorKnowEachOther(t *testing.T) {
	derive := func(seed, name string, usage x509.ExtKeyUsage) (tls.Certificate, *x509.CertPool, string) {
		certificate, key, err := selfSigned(seed, name, usage)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(certificate))
		return pair, pool, certificate + key
	}
	server, servers, first := derive("seed", "barman-cloud", x509.ExtKeyUsageServerAuth)
	client, clients, other := derive("seed", "barman-cloud-client", x509.ExtKeyUsageClientAuth)
	if _, _, again := derive("seed", "barman-cloud", x509.ExtKeyUsageServerAuth); again != first {
		t.Error("the same seed gave another certificate: every up would change it")
	}
	if first == other {
		t.Error("both have one key")
	}
	stranger, strangers, _ := derive("another seed", "barman-cloud-client", x509.ExtKeyUsageClientAuth)
	connect := func(client tls.Certificate, servers *x509.CertPool) error {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		_ = errors.Join(a.SetDeadline(time.Now().Add(5*time.Second)), b.SetDeadline(time.Now().Add(5*time.Second)))
		accepted := accept(b, &tls.Config{
			Certificates: []tls.Certificate{server}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
			MinVersion: tls.VersionTLS13,
		})
		conn := tls.Client(a, &tls.Config{
			Certificates: []tls.Certificate{client}, RootCAs: servers, ServerName: "barman-cloud", MinVersion: tls.VersionTLS13,
		})
		err := conn.HandshakeContext(t.Context())
		a.Close()
		return errors.Join(err, <-accepted)
	}
	if err := connect(client, servers); err != nil {
		t.Errorf("they do not know each other: %v", err)
	}
	if err := connect(stranger, servers); err == nil {
		t.Error("the plugin took a stranger's certificate")
	}
	if err := connect(client, strangers); err == nil {
		t.Error("the operator took a stranger for the plugin")
	}
}

// accept accepts a connection in the background.
func accept(conn net.Conn, config *tls.Config) <-chan error {
	done := make(chan error, 1)
	go func() { done <- tls.Server(conn, config).Handshake() }()
	return done
}
