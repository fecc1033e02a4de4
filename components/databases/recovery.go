package databases

import (
	"encoding/json"
	"strings"
	"time"
)

// Layer is the layer of the GitOps tree with the databases.
const Layer = "databases"

// Origin is the name under which a PostgreSQL's manifest says where its copies are read from.
const Origin = "origin"

// OriginAnnotation is where a MariaDB's manifest says that: the folder in the bucket.
const OriginAnnotation = "databases.tinyrack.net/origin"

// ClientLabel stands on the pods of jobs that copy or restore a database, with its name.
const ClientLabel = "databases.tinyrack.net/client"

// Recovery changes the manifests of a kind of database, so that one that is not there yet comes out of its copies. One
// that is there is left as it is.
type Recovery struct {
	Group, Kind string
	// Patch is a JSON patch, as YAML.
	Patch string
}

// Recoveries are those of both kinds of databases. until is the time whose state is wanted, zero for the last one.
//
// PostgreSQL gets the database and the owner that its manifest would have made empty:
// https://cloudnative-pg.io/documentation/1.30/recovery/
//
// The operator of MariaDB would restore into a database that has been there all the while, over what was written since:
// with the annotation Flux makes one that is missing, and touches none that exists.
// https://github.com/mariadb-operator/mariadb-operator/blob/v25.10.4/docs/logical_backup.md
// https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources
func (b *Backups) Recoveries(until time.Time) []Recovery {
	postgresql := []operation{
		{Op: "add", Path: "/spec/bootstrap/recovery", Value: map[string]string{"source": Origin}},
		{Op: "move", From: "/spec/bootstrap/initdb/database", Path: "/spec/bootstrap/recovery/database"},
		{Op: "move", From: "/spec/bootstrap/initdb/owner", Path: "/spec/bootstrap/recovery/owner"},
		// What else is in it makes a new database, such as its extensions: the copies have what came of that.
		{Op: "remove", Path: "/spec/bootstrap/initdb"},
	}
	key := func(name string) map[string]string { return map[string]string{"name": BackupSecretName, "key": name} }
	source := map[string]any{
		"backupContentType": "Logical",
		"s3": map[string]any{
			"bucket": b.Bucket, "endpoint": b.Endpoint, "region": b.Region, "tls": map[string]bool{"enabled": !b.Insecure},
			"accessKeyIdSecretKeyRef": key("access-key"), "secretAccessKeySecretKeyRef": key("secret-key"),
		},
		"restoreJob": map[string]any{
			"metadata":  map[string]any{"labels": map[string]string{}},
			"resources": map[string]any{"requests": map[string]string{"cpu": "10m", "memory": "64Mi"}},
		},
	}
	if !until.IsZero() {
		at := until.UTC().Format(time.RFC3339)
		postgresql = append(postgresql, operation{
			Op: "add", Path: "/spec/bootstrap/recovery/recoveryTarget", Value: map[string]string{"targetTime": at},
		})
		source["targetRecoveryTime"] = at
	}
	mariadb := []operation{
		{Op: "add", Path: "/metadata/annotations/kustomize.toolkit.fluxcd.io~1ssa", Value: "IfNotPresent"},
		{Op: "add", Path: "/spec/bootstrapFrom", Value: source},
		{Op: "copy", From: "/metadata/annotations/" + step(OriginAnnotation), Path: "/spec/bootstrapFrom/s3/prefix"},
		{
			Op: "copy", From: "/metadata/name",
			Path: "/spec/bootstrapFrom/restoreJob/metadata/labels/" + step(ClientLabel),
		},
	}
	return []Recovery{
		recovery("postgresql.cnpg.io", "Cluster", postgresql), recovery("k8s.mariadb.com", "MariaDB", mariadb),
	}
}

func recovery(group, kind string, operations []operation) Recovery {
	patch, _ := json.MarshalIndent(operations, "", "  ") // texts and maps of them: nothing that could fail
	return Recovery{Group: group, Kind: kind, Patch: string(patch) + "\n"}
}

// step is a name as a part of a path, RFC 6901.
func step(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

// operation is one of a JSON patch, RFC 6902.
type operation struct {
	Op    string `json:"op"`
	From  string `json:"from,omitempty"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}
