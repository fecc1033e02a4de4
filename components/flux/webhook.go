package flux

import (
	"crypto/sha256"
	"fmt"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// webhookName is that of the tree's Receiver, and of the Secret with its token.
const webhookName = "flux-webhook"

// statusName is that of the tree's Provider and Alert for the status of commits, and of the Secret with their token.
const statusName = "flux-commit-status"

// ReceiverService is the Service of the controller that takes webhooks, as a URL from inside the cluster. Flux brings
// it.
const ReceiverService = "http://webhook-receiver." + namespaceName + ".svc.cluster.local:80"

// registerWebhook makes the token with which the git host signs what it sends, and where it sends it.
func (f *Flux) registerWebhook(ctx *pulumi.Context, name string, opts []pulumi.ResourceOption) error {
	token, err := random.NewRandomPassword(ctx, name+"-webhook-token", &random.RandomPasswordArgs{
		Length: pulumi.Int(48), Special: pulumi.Bool(false),
	}, pulumi.Parent(f))
	if err != nil {
		return err
	}
	_, err = corev1.NewSecret(ctx, name+"-webhook", &corev1.SecretArgs{
		Metadata:   metadata(webhookName, nil),
		Type:       pulumi.String("Opaque"),
		StringData: pulumi.StringMap{"token": token.Result},
	}, opts...)
	f.WebhookToken = pulumi.ToSecret(token.Result).(pulumi.StringOutput)
	f.WebhookPath = pulumi.Unsecret(token.Result.ApplyT(webhookPath)).(pulumi.StringOutput)
	return err
}

// webhookPath is where the Receiver answers: https://fluxcd.io/flux/components/notification/receivers/#webhook-path
func webhookPath(token string) string {
	return fmt.Sprintf("/hook/%x", sha256.Sum256([]byte(token+webhookName+namespaceName)))
}
