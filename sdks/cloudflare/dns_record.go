package cloudflare

import (
	"reflect"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// DNSRecord is one record of a zone (DnsRecord in the SDK).
type DNSRecord struct {
	pulumi.CustomResourceState
}

// DNSRecordArgs describes a DNSRecord.
type DNSRecordArgs struct {
	// Comment is shown in the dashboard and has no effect on answers.
	Comment pulumi.StringPtrInput
	Content pulumi.StringPtrInput
	// Name is the full name, zone included.
	Name pulumi.StringInput
	// Proxied makes Cloudflare answer with its own addresses.
	Proxied pulumi.BoolPtrInput
	// TTL is in seconds; 1 means automatic, the only value of a proxied record.
	TTL    pulumi.Float64Input
	Type   pulumi.StringInput
	ZoneID pulumi.StringPtrInput
}

type dnsRecordArgs struct {
	Comment *string `pulumi:"comment"`
	Content *string `pulumi:"content"`
	Name    string  `pulumi:"name"`
	Proxied *bool   `pulumi:"proxied"`
	TTL     float64 `pulumi:"ttl"`
	Type    string  `pulumi:"type"`
	ZoneID  *string `pulumi:"zoneId"`
}

// ElementType makes DNSRecordArgs an input.
func (DNSRecordArgs) ElementType() reflect.Type { return reflect.TypeFor[dnsRecordArgs]() }

// NewDNSRecord registers a DNS record.
func NewDNSRecord(
	ctx *pulumi.Context, name string, args *DNSRecordArgs, opts ...pulumi.ResourceOption,
) (*DNSRecord, error) {
	record := &DNSRecord{}
	if err := register(ctx, "cloudflare:index/dnsRecord:DnsRecord", name, args, record, opts); err != nil {
		return nil, err
	}
	return record, nil
}
