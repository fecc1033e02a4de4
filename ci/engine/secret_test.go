package engine

import (
	"encoding/json"
	"reflect"
	"testing"
)

// As the engine writes them: resource.SigKey and resource.SecretSig of github.com/pulumi/pulumi/sdk/v3.
const exported = `{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","plaintext":"\"canary\""}`

func parse(t *testing.T, text string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestSecretsAreKnown(t *testing.T) {
	secret := parse(t, exported)
	if !IsSecret(secret) || !reflect.DeepEqual(secret, any(Secret("canary"))) {
		t.Errorf("%v is none, or another than %v", secret, Secret("canary"))
	}
	for name, other := range map[string]any{
		"nothing": nil, "text": "4dabf18193072939515e22adb298388d", "list": []any{secret},
		"around one": map[string]any{"a": secret},
		// An asset has another mark.
		"an asset": map[string]any{sigKey: "c44067f5952c0a294b673a41bacd8c17"},
	} {
		if IsSecret(other) {
			t.Errorf("%s is one", name)
		}
	}
}

func TestClear(t *testing.T) {
	for text, want := range map[string]any{
		exported: "canary",
		`{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","plaintext":"{\"a\":[1]}"}`: map[string]any{
			"a": []any{1.0},
		},
	} {
		if got, ok := Clear(parse(t, text)); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{
		`{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","ciphertext":"v1:x"}`,
		`{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","plaintext":"canary"}`, `"text"`, `null`,
	} {
		if got, ok := Clear(parse(t, text)); ok {
			t.Errorf("%s is %v", text, got)
		}
	}
}

func TestMap(t *testing.T) {
	value := parse(t, `{"a":[1,`+exported+`,{"b":`+exported+`}],"c":"x","d":null}`)
	before := parse(t, `{"a":[1,`+exported+`,{"b":`+exported+`}],"c":"x","d":null}`)
	got := Map(value, func(part any) (any, bool) {
		if !IsSecret(part) {
			return nil, false
		}
		text, _ := Clear(part)
		return text.(string) + "!", true
	})
	if want := parse(t, `{"a":[1,"canary!",{"b":"canary!"}],"c":"x","d":null}`); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if !reflect.DeepEqual(value, before) {
		t.Error("what was given is changed")
	}
	if !hasSecret(value) || hasSecret(got) || hasSecret(nil) {
		t.Error("secrets are seen where none are, or not seen")
	}
}
