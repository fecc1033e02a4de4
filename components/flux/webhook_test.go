package flux

import "testing"

// TestWebhookPath compares with what `printf <token><receiver><namespace> | sha256sum` says.
func TestWebhookPath(t *testing.T) {
	const want = "/hook/160a0a4e44c1274abc889eb8306c210a2dccabe7b770309a598a154133d20f6a"
	if got := webhookPath("token"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
