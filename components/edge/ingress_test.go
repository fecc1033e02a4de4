package edge

import (
	"embed"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/tinyrack-net/infrastructure/internal/golden"
)

//go:embed testdata
var testdata embed.FS

func TestIngressConfig(t *testing.T) {
	text, err := json.MarshalIndent(ingressConfig(valid().Ingress), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, testdata, "ingress.json", string(text)+"\n")
}

func TestIngressConfigIgnoresTheOrderOfTheList(t *testing.T) {
	routes := valid().Ingress
	want := ingressConfig(routes)
	for range routes {
		routes = append(routes[1:], routes[0])
		if got := ingressConfig(routes); !reflect.DeepEqual(got, want) {
			t.Errorf("rules of %v are %v, want %v", routes, got, want)
		}
	}
	slices.Reverse(routes)
	if got := ingressConfig(routes); !reflect.DeepEqual(got, want) {
		t.Errorf("rules of %v are %v, want %v", routes, got, want)
	}
}

func TestIngressConfigAlwaysEndsIn404(t *testing.T) {
	want := []rule{{Service: "http_status:404"}}
	if got := ingressConfig(nil); !reflect.DeepEqual(got, want) {
		t.Errorf("rules without routes are %v, want %v", got, want)
	}
}

// The type is the one of cloudflared (connection.TunnelToken), which decodes the
// secret itself as base64.
func TestConnectorToken(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	encoded := base64.StdEncoding.EncodeToString(secret)
	token, err := connectorToken("account", "c0ffee00-0000-4000-8000-000000000000", encoded)
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		AccountTag   string `json:"a"`
		TunnelSecret []byte `json:"s"`
		TunnelID     string `json:"t"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.AccountTag != "account" || got.TunnelID != "c0ffee00-0000-4000-8000-000000000000" ||
		string(got.TunnelSecret) != string(secret) {
		t.Errorf("token holds %+v", got)
	}
}
