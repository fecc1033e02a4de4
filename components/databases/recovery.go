package databases

// Layer is the layer of the GitOps tree with the databases.
const Layer = "databases"

// Origin is the name under which a database's manifest says where its copies are read from.
const Origin = "origin"

// Recovery makes a PostgreSQL of the operator's that is not there yet come out of its copies, with the database and the
// owner that its manifest would have made empty. One that is there is left as it is. Group, kind and the patch, JSON as
// YAML: https://cloudnative-pg.io/documentation/1.30/recovery/
const (
	RecoveryGroup = "postgresql.cnpg.io"
	RecoveryKind  = "Cluster"
	RecoveryPatch = `- op: move
  from: /spec/bootstrap/initdb
  path: /spec/bootstrap/recovery
- op: add
  path: /spec/bootstrap/recovery/source
  value: ` + Origin + "\n"
)
