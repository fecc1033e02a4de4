package edge

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
)

// connector is what a connector logs in with (connection.TunnelToken in
// cloudflare/cloudflared). Its token is the base64 of its JSON.
type connector struct {
	Account string `json:"a"`
	Tunnel  string `json:"t"`
	Secret  string `json:"s"` // base64
}

// connectorToken derives the token. That spares a call to the API, so a preview
// needs no network.
func connectorToken(accountID, tunnelID, secretBase64 string) (string, error) {
	text, err := json.Marshal(connector{accountID, tunnelID, secretBase64}) //nolint:gosec // a token holds its secret
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(text), nil
}

// fingerprint is the beginning of the token's SHA-256. The 32 random bytes in a token are beyond any guessing.
func fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:8])
}

// parseToken is the reverse of connectorToken. Its error does not quote the token.
func parseToken(token string) (connector, error) {
	var c connector
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return connector{}, errors.New("its connector token cannot be read")
	}
	return c, nil
}
