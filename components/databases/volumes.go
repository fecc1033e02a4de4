package databases

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// VolumesNamespace is where Longhorn runs, which sends the copies of volumes: its documentation knows no other.
const VolumesNamespace = "longhorn-system"

// VolumesReason is why the pods in it may ask for everything.
const VolumesReason = "Longhorn gives the host its volumes: its pods mount the host's folders and run its iSCSI tools."

// VolumesLayer is the layer of the GitOps tree in which Longhorn brings volumes back.
const VolumesLayer = "infrastructure-volumes"

// VolumeRecovery has Longhorn bring back all volumes of a copy of its own objects, with their claims. The layer's own
// patch, which takes that object out, gives way to it.
// https://longhorn.io/docs/1.12.0/advanced-resources/system-backup-restore/restore-longhorn-system/
func VolumeRecovery(systemBackup string) Recovery {
	return recovery("longhorn.io", "SystemRestore", []operation{
		{Op: "replace", Path: "/spec/systemBackup", Value: systemBackup},
	})
}

// VolumeCredentials returns the data of the Secret BackupSecretName in VolumesNamespace, under the names that Longhorn
// reads. The two keys are secret. The region is a part of the place that the tree's manifest names.
// https://longhorn.io/docs/1.12.0/snapshots-and-backups/backup-and-restore/set-backup-target/
func (b *Backups) VolumeCredentials(accessKey, secretKey pulumi.StringInput) map[string]pulumi.StringInput {
	return map[string]pulumi.StringInput{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_ENDPOINTS": pulumi.String(b.url()),
	}
}
