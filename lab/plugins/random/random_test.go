package random_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"golang.org/x/crypto/bcrypt"

	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
	"github.com/tinyrack-net/infrastructure/lab/plugins/random"
)

const (
	bytesToken    = "random:index/randomBytes:RandomBytes"
	passwordToken = "random:index/randomPassword:RandomPassword"
)

func secret(t *testing.T, state resource.PropertyMap, key resource.PropertyKey) string {
	t.Helper()
	if !state[key].IsSecret() {
		t.Fatalf("%s is not secret: %s", key, state[key].TypeString())
	}
	return state[key].SecretValue().Element.StringValue()
}

func TestRandomBytes(t *testing.T) {
	p := plugintest.Start(t, random.New, nil)
	in := p.Check(bytesToken, plugintest.Map(map[string]any{"length": 32.0}))
	plan := p.PreviewCreate(bytesToken, in)
	if !plan["base64"].IsSecret() || !plan["base64"].ContainsUnknowns() {
		t.Errorf("planned base64 %v, want a secret not known yet", plan["base64"])
	}
	id, state := p.Create(bytesToken, in)
	raw, err := base64.StdEncoding.DecodeString(secret(t, state, "base64"))
	if err != nil || len(raw) != 32 || hex.EncodeToString(raw) != secret(t, state, "hex") {
		t.Errorf("base64 and hex are not the same 32 bytes: %v", err)
	}
	if _, other := p.Create(bytesToken, in); secret(t, other, "hex") == secret(t, state, "hex") {
		t.Error("two resources have the same bytes")
	}
	if id != secret(t, state, "base64") {
		t.Error("the official plugin's ID of RandomBytes is the value in clear; the double's is not")
	}
	readID, inputs, read := p.Read(bytesToken, id, in, state)
	if readID != id || !inputs.DeepEquals(in) || !read.DeepEquals(state) {
		t.Error("a refresh changes something")
	}
	if err := p.Delete(bytesToken, id, in, state); err != nil {
		t.Error(err)
	}
}

func TestEveryChangeReplaces(t *testing.T) {
	p := plugintest.Start(t, random.New, nil)
	olds := plugintest.Map(map[string]any{"length": 32.0, "keepers": map[string]any{"a": "1"}})
	for name, news := range map[string]map[string]any{
		"length":  {"length": 33.0, "keepers": map[string]any{"a": "1"}},
		"keepers": {"length": 32.0, "keepers": map[string]any{"a": "2"}},
		"none":    {"length": 32.0},
	} {
		if diff := p.Diff(bytesToken, olds, plugintest.Map(news)); len(diff.GetReplaces()) != 1 {
			t.Errorf("%s: replaces %v, want one", name, diff.GetReplaces())
		}
	}
	if diff := p.Diff(bytesToken, olds, olds); len(diff.GetReplaces()) != 0 {
		t.Errorf("no change: replaces %v", diff.GetReplaces())
	}
}

func TestRandomPassword(t *testing.T) {
	p := plugintest.Start(t, random.New, nil)
	for range 5 {
		in := p.Check(passwordToken, plugintest.Map(map[string]any{
			"length": 8.0, "upper": false, "minNumeric": 3.0, "minSpecial": 2.0, "overrideSpecial": "_-",
		}))
		id, state := p.Create(passwordToken, in)
		password := secret(t, state, "result")
		count := func(characters string) int {
			n := 0
			for _, c := range password {
				if strings.ContainsRune(characters, c) {
					n++
				}
			}
			return n
		}
		if id != "none" || len(password) != 8 || count("0123456789") < 3 || count("_-") < 2 ||
			count("ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 0 || count("0123456789_-abcdefghijklmnopqrstuvwxyz") != 8 {
			t.Fatalf("id %q, password %q", id, password)
		}
		if err := bcrypt.CompareHashAndPassword([]byte(secret(t, state, "bcryptHash")), []byte(password)); err != nil {
			t.Fatal(err)
		}
		if state["lower"].V != true || state["upper"].V != false || state["minLower"].V != 0.0 {
			t.Fatalf("completed inputs: %v", state)
		}
	}
}

func TestRefusedInputs(t *testing.T) {
	p := plugintest.Start(t, random.New, nil)
	for name, c := range map[string]struct {
		token  string
		inputs map[string]any
		want   string
	}{
		"no length":     {bytesToken, map[string]any{}, `missing required property "length"`},
		"length 0":      {bytesToken, map[string]any{"length": 0.0}, "length must be at least 1"},
		"length 1.5":    {bytesToken, map[string]any{"length": 1.5}, "must be an integer"},
		"unknown":       {bytesToken, map[string]any{"length": 1.0, "size": 1.0}, `does not support property "size"`},
		"wrong keepers": {bytesToken, map[string]any{"length": 1.0, "keepers": map[string]any{"a": 1.0}}, `keepers["a"]`},
		"too short":     {passwordToken, map[string]any{"length": 3.0, "minLower": 4.0}, "at least minLower"},
	} {
		_, failures, err := p.TryCheck(c.token, plugintest.Map(c.inputs))
		if err != nil || len(failures) != 1 || !strings.Contains(failures[0], c.want) {
			t.Errorf("%s: %v %q, want %q", name, err, failures, c.want)
		}
	}
	if _, _, err := p.TryCheck("random:index/randomPet:RandomPet", nil); err == nil ||
		!strings.Contains(err.Error(), "RandomPet") {
		t.Errorf("another type: %v", err)
	}
}
