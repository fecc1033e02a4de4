package cloudflare_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudflare/cloudflare-go/v6/dns"
	"github.com/cloudflare/cloudflare-go/v6/option"
	"github.com/cloudflare/cloudflare-go/v6/zero_trust"

	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
)

// put sets a field of the official client's parameters. Its own helper is in the
// client's root package, which takes very long to compile.
func put[T any](value *T, present *bool, to T) { *value, *present = to, true }

// The official client must be able to do all that the program does.
func TestOfficialClient(t *testing.T) {
	c := start(t, t.TempDir())
	ctx := t.Context()
	options := []option.RequestOption{
		option.WithBaseURL(c.url + cloudflare.Prefix + "/"), option.WithAPIToken(c.Token()), option.WithMaxRetries(0),
	}
	account, zone := cloudflare.DefaultAccountID, cloudflare.DefaultZoneID

	tunnels := zero_trust.NewTunnelCloudflaredService(options...)
	var newTunnel zero_trust.TunnelCloudflaredNewParams
	put(&newTunnel.AccountID.Value, &newTunnel.AccountID.Present, account)
	put(&newTunnel.Name.Value, &newTunnel.Name.Present, "site")
	put(&newTunnel.ConfigSrc.Value, &newTunnel.ConfigSrc.Present, zero_trust.TunnelCloudflaredNewParamsConfigSrcCloudflare)
	put(&newTunnel.TunnelSecret.Value, &newTunnel.TunnelSecret.Present, secret)
	tunnel, err := tunnels.New(ctx, newTunnel)
	if err != nil {
		t.Fatal(err)
	}
	if tunnel.AccountTag != account || tunnel.Name != "site" || tunnel.Status != "inactive" || tunnel.CreatedAt.IsZero() {
		t.Errorf("tunnel: %+v", tunnel)
	}
	if _, err := tunnels.New(ctx, newTunnel); !refusedWith(err, 1013) {
		t.Errorf("second tunnel of that name: %v", err)
	}

	var config zero_trust.TunnelCloudflaredConfigurationUpdateParams
	put(&config.AccountID.Value, &config.AccountID.Present, account)
	rules := make([]zero_trust.TunnelCloudflaredConfigurationUpdateParamsConfigIngress, 2)
	put(&rules[0].Hostname.Value, &rules[0].Hostname.Present, "notes.lab.test")
	put(&rules[0].Service.Value, &rules[0].Service.Present, "http://memos.memos-system.svc:5230")
	put(&rules[1].Service.Value, &rules[1].Service.Present, "http_status:404")
	config.Config.Present = true
	put(&config.Config.Value.Ingress.Value, &config.Config.Value.Ingress.Present, rules)
	written, err := tunnels.Configurations.Update(ctx, tunnel.ID, config)
	if err != nil {
		t.Fatal(err)
	}
	if written.TunnelID != tunnel.ID || written.Version != 1 || len(written.Config.Ingress) != 2 ||
		written.Config.Ingress[0].Hostname != "notes.lab.test" || written.Config.Ingress[1].Service != "http_status:404" {
		t.Errorf("config: %+v", written)
	}

	records := dns.NewRecordService(options...)
	var cname dns.CNAMERecordParam
	put(&cname.Name.Value, &cname.Name.Present, "notes.lab.test")
	put(&cname.Type.Value, &cname.Type.Present, dns.CNAMERecordTypeCNAME)
	put(&cname.Content.Value, &cname.Content.Present, tunnel.ID+".cfargotunnel.com")
	put(&cname.TTL.Value, &cname.TTL.Present, 1)
	put(&cname.Proxied.Value, &cname.Proxied.Present, true)
	newRecord := dns.RecordNewParams{Body: cname}
	put(&newRecord.ZoneID.Value, &newRecord.ZoneID.Present, zone)
	record, err := records.New(ctx, newRecord)
	if err != nil {
		t.Fatal(err)
	}
	if record.Name != "notes.lab.test" || !record.Proxied || record.TTL != 1 ||
		record.Content != tunnel.ID+".cfargotunnel.com" {
		t.Errorf("record: %+v", record)
	}
	if _, err := records.New(ctx, newRecord); !refusedWith(err, 81053) {
		t.Errorf("second record of that name: %v", err)
	}
	var listRecords dns.RecordListParams
	put(&listRecords.ZoneID.Value, &listRecords.ZoneID.Present, zone)
	found := 0
	for pages := records.ListAutoPaging(ctx, listRecords); pages.Next(); found++ {
		if pages.Current().ID != record.ID {
			t.Errorf("listed: %+v", pages.Current())
		}
	}
	if found != 1 {
		t.Errorf("%d records listed", found)
	}

	policies := zero_trust.NewAccessPolicyService(options...)
	var newPolicy zero_trust.AccessPolicyNewParams
	put(&newPolicy.AccountID.Value, &newPolicy.AccountID.Present, account)
	put(&newPolicy.Name.Value, &newPolicy.Name.Present, "team")
	put(&newPolicy.Decision.Value, &newPolicy.Decision.Present, zero_trust.DecisionAllow)
	var email zero_trust.EmailRuleParam
	email.Email.Present = true
	put(&email.Email.Value.Email.Value, &email.Email.Value.Email.Present, "someone@lab.test")
	put(&newPolicy.Include.Value, &newPolicy.Include.Present, []zero_trust.AccessRuleUnionParam{email})
	policy, err := policies.New(ctx, newPolicy)
	if err != nil {
		t.Fatal(err)
	}
	if policy.Decision != zero_trust.DecisionAllow || len(policy.Include) != 1 || policy.SessionDuration != "24h" {
		t.Errorf("policy: %+v", policy)
	}

	apps := zero_trust.NewAccessApplicationService(options...)
	var selfHosted zero_trust.AccessApplicationNewParamsBodySelfHostedApplication
	put(&selfHosted.Name.Value, &selfHosted.Name.Present, "notes")
	put(&selfHosted.Domain.Value, &selfHosted.Domain.Present, "notes.lab.test")
	put(&selfHosted.Type.Value, &selfHosted.Type.Present, zero_trust.ApplicationTypeSelfHosted)
	var link zero_trust.AccessApplicationNewParamsBodySelfHostedApplicationPoliciesAccessAppPolicyLink
	put(&link.ID.Value, &link.ID.Present, policy.ID)
	put(&link.Precedence.Value, &link.Precedence.Present, 1)
	put(&selfHosted.Policies.Value, &selfHosted.Policies.Present,
		[]zero_trust.AccessApplicationNewParamsBodySelfHostedApplicationPolicyUnion{link})
	newApp := zero_trust.AccessApplicationNewParams{Body: selfHosted}
	put(&newApp.AccountID.Value, &newApp.AccountID.Present, account)
	app, err := apps.New(ctx, newApp)
	if err != nil {
		t.Fatal(err)
	}
	if app.Domain != "notes.lab.test" || len(app.AUD) != 64 || app.Type != zero_trust.ApplicationTypeSelfHosted {
		t.Errorf("application: %+v", app)
	}

	var deleteApp zero_trust.AccessApplicationDeleteParams
	put(&deleteApp.AccountID.Value, &deleteApp.AccountID.Present, account)
	_, err = apps.Delete(ctx, app.ID, deleteApp)
	check(t, err)
	var deletePolicy zero_trust.AccessPolicyDeleteParams
	put(&deletePolicy.AccountID.Value, &deletePolicy.AccountID.Present, account)
	_, err = policies.Delete(ctx, policy.ID, deletePolicy)
	check(t, err)
	var deleteRecord dns.RecordDeleteParams
	put(&deleteRecord.ZoneID.Value, &deleteRecord.ZoneID.Present, zone)
	_, err = records.Delete(ctx, record.ID, deleteRecord)
	check(t, err)
	var deleteTunnel zero_trust.TunnelCloudflaredDeleteParams
	put(&deleteTunnel.AccountID.Value, &deleteTunnel.AccountID.Present, account)
	_, err = tunnels.Delete(ctx, tunnel.ID, deleteTunnel)
	check(t, err)
	if left := c.total(t); left != 0 {
		t.Errorf("%v objects left", left)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// refusedWith is true when the client got the cloud's error code.
func refusedWith(err error, code int64) bool {
	return err != nil && strings.Contains(err.Error(), fmt.Sprintf(`"code":%d`, code))
}
