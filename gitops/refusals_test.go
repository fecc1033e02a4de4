package gitops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// edit changes one file of the valid tree: old becomes replacement. Without old the
// file is written anew.
type edit struct{ file, old, replacement string }

const (
	infrastructure = "clusters/lab/infrastructure.yaml"
	applications   = "clusters/lab/apps.yaml"
	deployment     = "apps/base/memos/deployment.yaml"
	labApps        = "apps/lab/kustomization.yaml"
	release        = "infrastructure/controllers/base/sealed-secrets/release.yaml"
	repository     = "infrastructure/controllers/base/sealed-secrets/repository.yaml"
	canary         = "infrastructure/configs/lab/canary.yaml"
	network        = "apps/base/memos/network.yaml"
	service        = "apps/base/memos/service.yaml"
	namespace      = "apps/base/memos/namespace.yaml"
	volume         = "apps/base/memos/storage.yaml"
	settings       = "Pulumi.lab.yaml"
	databases      = "clusters/lab/databases.yaml"
	cluster        = "databases/base/journal/cluster.yaml"
	copies         = "databases/base/journal/backups.yaml"
	shop           = "databases/base/shop/mariadb.yaml"
	dumps          = "databases/base/shop/backups.yaml"
	operator       = "infrastructure/controllers/base/cnpg/operator.yaml"
)

// withExtra adds one more file to the apps layer.
func withExtra(text string) []edit {
	return []edit{
		{labApps, "resources:\n", "resources:\n  - extra.yaml\n"},
		{"apps/lab/extra.yaml", "", text},
	}
}

// open is what is said of a namespace that is not shut.
func open(namespace string) string {
	return "lab: namespace " + namespace + ": no NetworkPolicy denies all pods all traffic: pods of every namespace would " +
		"reach its pods, and these everything: add one, and one for each thing that is needed"
}

func unread(file string) string {
	return file + ": is read by no environment: what it says never reaches a cluster: add it to a kustomization.yaml or " +
		"delete it"
}

// TestRefusals breaks the valid tree in one way at a time and compares everything that
// Check then says.
func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		edits []edit
		want  []string
	}{
		"layer outside flux-system": {
			edits: []edit{{applications, "namespace: flux-system", "namespace: default"}},
			want: []string{
				`lab: flux-system: Kustomization default/apps: is not in namespace flux-system: it finds neither its source nor cluster-vars`,
			},
		},
		"sealed secret without values": {
			edits: []edit{{canary, "encryptedData:\n    \"message\"", "encryptedData: {}\n    # \"message\""}},
			want: []string{
				`lab: infrastructure-configs: SealedSecret sealed-secrets/canary: seals nothing: seal it again with scripts/seal.sh lab`,
			},
		},
		"variable nobody defines": {
			edits: []edit{{deployment, "${zone}", "${zon}"}},
			want: []string{
				`lab: apps: Deployment memos: ${zon} is not defined: Flux would refuse the layer: add it to tinyrack:flux variables in Pulumi.lab.yaml`,
			},
		},
		"variable the stack leaves empty": {
			edits: []edit{{"Pulumi.lab.yaml", "zone: lab.test", "zone: \"\""}},
			want: []string{
				`lab: apps: Deployment memos: ${zone} is not defined: Flux would refuse the layer: add it to tinyrack:flux variables in Pulumi.lab.yaml`,
				// By its zone the lab is known.
				`lab: infrastructure-controllers: HelmRelease sealed-secrets/sealed-secrets: image "docker.io/bitnami/sealed-secrets-controller:0.40.0" has no digest: its registry could serve something else under the same tag: pin it, or list it in docs/images.md`,
			},
		},
		"application that calls itself by the hostname that leads to it": {
			edits: []edit{{deployment, "notes.${zone}", "${hostname_memos}"}},
		},
		"application that calls itself by a hostname below a wildcard": {
			edits: []edit{
				{deployment, "notes.${zone}", "${hostname_memos}"},
				{settings, "hostname: notes.lab.test", "hostname: \"*.lab.test\""},
				{settings, "    variables:\n", "    variables:\n      hostname_memos: notes.lab.test\n"},
			},
		},
		"application that calls itself by a hostname that nobody defines": {
			edits: []edit{
				{deployment, "notes.${zone}", "${hostname_memos}"}, {settings, "hostname: notes.lab.test", "hostname: \"*.lab.test\""},
			},
			want: []string{
				`lab: apps: Deployment memos: ${hostname_memos} is not defined, for no hostname of cloudflare.ingress leads to one Service memos: Flux would refuse the layer: add the hostname, or the variable to tinyrack:flux variables in Pulumi.lab.yaml`,
			},
		},
		"substitution that does not parse": {
			edits: []edit{{deployment, "${zone}", "${zone"}},
			want: []string{
				`lab: apps: Deployment memos: substitution: missing closing brace: Flux would refuse the whole layer`,
			},
		},
		"variable in the root layer": {
			edits: []edit{{applications, "timeout: 5m", "timeout: ${timeout}"}},
			want: []string{
				`lab: flux-system: Kustomization apps: has a ${variable}: nothing substitutes it in ./clusters/lab: write the value, or move it into a layer`,
			},
		},
		"stack missing": {
			edits: []edit{{"clusters/test/kustomization.yaml", "", "resources: []"}},
			want: []string{
				`test: Pulumi.test.yaml cannot be read: the variables that Flux substitutes are unknown: add the stack or remove clusters/test`,
			},
		},
		"path of another environment": {
			edits: []edit{{applications, "./apps/lab", "./apps/base/memos"}},
			want: []string{
				`lab: apps: path is "./apps/base/memos", want "./apps/lab": a layer is found by its name, and only in its own environment`,
				`apps/lab/kustomization.yaml: is read by no environment: what it says never reaches a cluster: add it to a kustomization.yaml or delete it`,
			},
		},
		"path that does not exist": {
			edits: []edit{{applications, "./apps/lab", "./apps/laboratory"}},
			want: []string{
				`lab: apps: path is "./apps/laboratory", want "./apps/lab": a layer is found by its name, and only in its own environment`,
				`lab: apps: ./apps/laboratory cannot be built: must build at directory: not a valid directory: evalsymlink failure on 'apps/laboratory' : lstat apps/laboratory: no such file or directory`,
			},
		},
		"kustomization with an unknown field": {
			edits: []edit{{labApps, "replicas:", "replica:"}},
			want: []string{
				`lab: apps: ./apps/lab cannot be built: invalid Kustomization: json: unknown field "replica"`,
			},
		},
		"layer without prune and wait": {
			edits: []edit{{applications, "  prune: true\n  wait: true\n", "  prune: false\n"}},
			want: []string{
				`lab: apps: prune is not true: what is deleted in git would stay in the cluster`,
				`lab: apps: wait is not true: the layer would be Ready before its objects are, and the next one would start too early`,
			},
		},
		"layer without timeout and retry": {
			edits: []edit{{applications, "  retryInterval: 10s\n  timeout: 5m\n", ""}},
			want: []string{
				`lab: apps: retryInterval is not set: it would default to the interval (10m), too long for a failed first start`,
				`lab: apps: timeout is not set: it would default to the interval (10m), too long for a failed first start`,
			},
		},
		"layer with a misspelt field": {
			edits: []edit{{applications, "  prune: true\n", "  prune: true\n  retryIntervall: 10s\n"}},
			want: []string{
				`lab: flux-system: Kustomization flux-system/apps: does not fit its schema: /spec: additionalProperties 'retryIntervall' not allowed`,
			},
		},
		"layer from another source": {
			edits: []edit{{applications, "kind: GitRepository\n    name: flux-system", "kind: GitRepository\n    name: other"}},
			want: []string{
				`lab: apps: sourceRef is not GitRepository flux-system: the layer would not follow the commits of this repository`,
			},
		},
		"layer from another kind of source": {
			edits: []edit{{applications, "kind: GitRepository", "kind: Bucket"}},
			want: []string{
				`lab: apps: sourceRef is not GitRepository flux-system: the layer would not follow the commits of this repository`,
			},
		},
		"layer from another namespace's source": {
			edits: []edit{{applications, "kind: GitRepository\n", "kind: GitRepository\n    namespace: default\n"}},
			want: []string{
				`lab: apps: sourceRef is not GitRepository flux-system: the layer would not follow the commits of this repository`,
			},
		},
		"variables from a second object": {
			edits: []edit{{
				applications, "        name: cluster-vars\n",
				"        name: cluster-vars\n      - kind: Secret\n        name: more\n",
			}},
			want: []string{
				`lab: apps: postBuild has variables besides ConfigMap cluster-vars: they would hide facts of the program: set them in Pulumi.lab.yaml`,
			},
		},
		"dependency in another namespace": {
			edits: []edit{{
				applications, "- name: infrastructure-configs\n",
				"- name: infrastructure-configs\n      namespace: default\n",
			}},
			want: []string{
				`lab: apps: depends on infrastructure-configs, which is not a layer of this environment: it would wait for ever`,
			},
		},
		"misspelt field in a list": {
			edits: []edit{{
				applications, "- name: infrastructure-configs\n",
				"- name: infrastructure-configs\n      namespaces: flux-system\n",
			}},
			want: []string{
				`lab: flux-system: Kustomization flux-system/apps: does not fit its schema: /spec/dependsOn/0: additionalProperties 'namespaces' not allowed`,
			},
		},
		"variables optional": {
			edits: []edit{{applications, "        name: cluster-vars\n", "        name: cluster-vars\n        optional: " +
				"true\n"}},
			want: []string{
				`lab: apps: postBuild does not substitute from ConfigMap cluster-vars, or only optionally: without it variables would have no value`,
			},
		},
		"variables beside cluster-vars": {
			edits: []edit{{applications, "  postBuild:\n", "  postBuild:\n    substitute:\n      zone: example.org\n"}},
			want: []string{
				`lab: apps: postBuild has variables besides ConfigMap cluster-vars: they would hide facts of the program: set them in Pulumi.lab.yaml`,
			},
		},
		"dependency that does not exist": {
			edits: []edit{{applications, "name: infrastructure-configs", "name: infrastructure"}},
			want: []string{
				`lab: apps: depends on infrastructure, which is not a layer of this environment: it would wait for ever`,
			},
		},
		"dependency in a circle": {
			edits: []edit{{infrastructure, "  interval: 10m\n", "  dependsOn:\n    - name: apps\n  interval: 10m\n"}},
			want: []string{
				`lab: flux-system: layers wait for each other: apps, databases, infrastructure-configs, infrastructure-connectors, infrastructure-controllers: none of them would ever start`,
			},
		},
		"something else than a layer in clusters": {
			edits: []edit{
				{"clusters/lab/kustomization.yaml", "resources:\n", "resources:\n  - extra.yaml\n"},
				{"clusters/lab/extra.yaml", "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: extra\n"},
			},
			want: []string{
				`lab: flux-system: Namespace extra: only Flux Kustomizations belong in clusters/lab: nothing orders or waits for it there: move it into a layer`,
			},
		},
		"sealed secret without a health check": {
			edits: []edit{{infrastructure, "c.type == 'Synced' && c.status == 'True'", "c.type == 'Ready'"}},
			want: []string{
				`lab: infrastructure-configs: SealedSecret sealed-secrets/canary: the layer has no healthCheckExprs for SealedSecret: it would be Ready although the secret could not be opened`,
			},
		},
		"misspelt field of a Kubernetes kind": {
			edits: []edit{{deployment, "enableServiceLinks", "enableServiceLink"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: does not fit its schema: unknown field "spec.template.spec.enableServiceLink"`,
			},
		},
		"wrong type in a Kubernetes kind": {
			edits: []edit{{deployment, "automountServiceAccountToken: false", "automountServiceAccountToken: none"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: does not fit its schema: json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.automountServiceAccountToken of type bool`,
			},
		},
		"misspelt field of a custom kind": {
			edits: []edit{{release, "driftDetection:\n    mode: enabled", "driftDetection:\n    mod: on"}},
			want: []string{
				`lab: infrastructure-controllers: HelmRelease sealed-secrets/sealed-secrets: does not fit its schema: /spec/driftDetection: additionalProperties 'mod' not allowed`,
			},
		},
		"value that a custom kind does not know": {
			edits: []edit{{release, "mode: enabled", "mode: sometimes"}},
			want: []string{
				`lab: infrastructure-controllers: HelmRelease sealed-secrets/sealed-secrets: does not fit its schema: /spec/driftDetection/mode: value must be one of "enabled", "warn", "disabled"`,
			},
		},
		"kind nobody knows": {
			edits: withExtra("apiVersion: apps/v2\nkind: Deployment\nmetadata:\n  name: memos-extra\n  namespace: " +
				"memos-system\n"),
			want: []string{
				`lab: apps: Deployment memos-system/memos-extra: nothing is known of Deployment in apps/v2, so it cannot be checked: is it misspelt? otherwise add its CRD to gitops/schemas`,
			},
		},
		"private key among the databases, and a file that nothing reads": {
			edits: []edit{
				{"databases/base/journal/private.pem", "", "-----BEGIN RSA PRIVATE KEY-----\n"},
				{"databases/base/journal/left.yaml", "", "kind: Thing\n"},
			},
			want: []string{
				unread("databases/base/journal/left.yaml"),
				`databases/base/journal/private.pem: holds a private key: everyone who can read the repository has it: remove it, and replace the key`,
			},
		},
		"database that is not named after its folder": {
			edits: []edit{
				{cluster, "metadata:\n  name: journal\n", "metadata:\n  name: diary\n"},
				{copies, "  cluster:\n    name: journal\n", "  cluster:\n    name: diary\n"},
			},
			want: []string{
				`databases/base/journal: Cluster diary is not named after its folder: call it journal or journal-…`,
			},
		},
		"application of a database's namespace that may not run": {
			edits: withExtra("apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: journal-look\n  namespace: journal-system\nspec:\n" +
				"  template:\n    spec:\n      restartPolicy: Never\n" +
				"      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}\n      containers:\n" +
				"        - name: look\n          image: docker.io/neosmemo/memos:0.25.0\n" +
				"          env: [{name: A, valueFrom: {secretKeyRef: {name: journal-app, key: uri}}}]\n" +
				"          securityContext: {capabilities: {drop: [ALL]}}\n" +
				"          resources: {requests: {cpu: 1m, memory: 1Mi}, limits: {memory: 1Mi}}\n"),
			want: []string{
				`lab: apps: Job journal-system/journal-look: namespace journal-system is restricted and would refuse its pods: allowPrivilegeEscalation != false (container "look" must set securityContext.allowPrivilegeEscalation=false)`,
			},
		},
		"application that would keep a former password": {
			edits: withExtra("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: journal-web\n  namespace: journal-system\n" +
				"spec:\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec:\n" +
				"      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}\n      containers:\n" +
				"        - name: web\n          image: docker.io/neosmemo/memos:0.25.0\n" +
				"          env: [{name: A, valueFrom: {secretKeyRef: {name: journal-app, key: uri}}}]\n" +
				"          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}\n" +
				"          resources: {requests: {cpu: 1m, memory: 1Mi}, limits: {memory: 1Mi}}\n"),
			want: []string{
				`lab: apps: Deployment journal-system/journal-web: its pods log in with Secret journal-app and would keep the former password when the database is restored: give them the annotation databases.tinyrack.net/incarnation: incarnation-${incarnation}`,
			},
		},
		"database whose log goes nowhere": {
			edits: []edit{{cluster, "isWALArchiver: true", "isWALArchiver: false"}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: sends its log nowhere: what is written between two copies is lost with its disk: add the plugin barman-cloud.cloudnative-pg.io with isWALArchiver: true`,
			},
		},
		"database whose log goes to another plugin": {
			edits: []edit{{cluster, "- name: barman-cloud.cloudnative-pg.io", "- name: other.cloudnative-pg.io"}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: sends its log nowhere: what is written between two copies is lost with its disk: add the plugin barman-cloud.cloudnative-pg.io with isWALArchiver: true`,
			},
		},
		"database whose store nobody makes": {
			edits: []edit{{
				cluster, "true\n      parameters:\n        barmanObjectName: journal-backups",
				"true\n      parameters:\n        barmanObjectName: journal-copies",
			}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: sends its log to ObjectStore "journal-copies", which is not in its namespace: what is written between two copies is lost with its disk: add it, or correct the name`,
			},
		},
		"database without a folder of its own": {
			edits: []edit{{cluster, "        serverName: journal-${incarnation}\n", ""}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: its log has no serverName: restored, it would write into the folder that it was restored from, and be refused: set <name>-${incarnation}`,
			},
		},
		"database that a restore could not turn into a recovery": {
			edits: []edit{{cluster, "    initdb:\n", "    recovery:\n      source: origin\n"}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: has no bootstrap.initdb with database and owner, which a restore turns into a recovery: the layer could not be applied then: name both there`,
			},
		},
		"database whose owner a recovery would not know": {
			edits: []edit{{cluster, "      owner: journal\n", ""}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: has no bootstrap.initdb with database and owner, which a restore turns into a recovery: the layer could not be applied then: name both there`,
			},
		},
		"database without an origin": {
			edits: []edit{{cluster, "    - name: origin\n", "    - name: other\n"}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: has no external cluster origin with the plugin barman-cloud.cloudnative-pg.io and a serverName: a restore would not know what to read: add it, with the serverName <name>-${restore_from}`,
			},
		},
		"database whose origin has no folder": {
			edits: []edit{{cluster, "          serverName: journal-${restore_from}\n", ""}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: has no external cluster origin with the plugin barman-cloud.cloudnative-pg.io and a serverName: a restore would not know what to read: add it, with the serverName <name>-${restore_from}`,
			},
		},
		"database that nothing copies whole": {
			edits: []edit{{copies, "  cluster:\n    name: journal\n", "  cluster:\n    name: other\n"}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: no ScheduledBackup copies it whole by the plugin barman-cloud.cloudnative-pg.io: its log alone restores nothing: add one`,
			},
		},
		"database copied in another way": {
			edits: []edit{{copies, "pluginConfiguration:\n    name: barman-cloud.cloudnative-pg.io", "pluginConfiguration:\n    name: other"}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: no ScheduledBackup copies it whole by the plugin barman-cloud.cloudnative-pg.io: its log alone restores nothing: add one`,
			},
		},
		"database that says nothing of its needs": {
			edits: []edit{{
				cluster, "    requests:\n      cpu: 50m\n      memory: 128Mi\n    limits:\n      memory: 512Mi\n", "    limits:\n      cpu: \"1\"\n",
			}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: resources.requests.cpu is not set: its node would be planned without it: set it`,
				`lab: databases: Cluster journal-system/journal: resources.requests.memory is not set: its node would be planned without it: set it`,
				`lab: databases: Cluster journal-system/journal: resources.limits.memory is not set: its node would be planned without it: set it`,
			},
		},
		"database whose log nobody watches": {
			edits: []edit{{databases, "c.type == 'ContinuousArchiving' && c.status == 'True'", "c.type == 'Other'"}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: the layer has no healthCheckExprs for Cluster that looks at ContinuousArchiving: it would be Ready although nothing reaches S3`,
			},
		},
		"incarnation in a layer that does not know it": {
			edits: []edit{{canary, "metadata:\n", "metadata:\n  labels:\n    of: incarnation-${incarnation}\n"}},
			want: []string{
				`lab: infrastructure-configs: SealedSecret canary: ${incarnation} is known in the layers databases and apps alone: Flux would refuse the layer: move the object there`,
			},
		},
		"MariaDB that a restore could not find": {
			edits: []edit{{shop, "    databases.tinyrack.net/origin: shop/shop-${restore_from}\n", "    other: text\n"}},
			want: []string{
				`lab: databases: MariaDB shop-system/shop: has no annotation databases.tinyrack.net/origin: a restore would not know what to read, and the layer could not be applied then: set it to the folder of its copies, <folder>/<name>-${restore_from}`,
			},
		},
		"MariaDB that a restore would look for elsewhere": {
			edits: []edit{{shop, "shop/shop-${restore_from}", "store/shop-${restore_from}"}},
			want: []string{
				`lab: databases: MariaDB shop-system/shop: Backup shop-system/shop-1 copies it to "shop/shop-1", and a restore would read from "store/shop-none": make them the same but for ${incarnation} in the one and ${restore_from} in the other`,
				`lab: databases: MariaDB shop-system/shop: Backup shop-system/shop-hourly-1 copies it to "shop/shop-1", and a restore would read from "store/shop-none": make them the same but for ${incarnation} in the one and ${restore_from} in the other`,
			},
		},
		"MariaDB without a first copy": {
			edits: []edit{{dumps, "spec:\n  mariaDbRef:\n    name: shop\n", "spec:\n  mariaDbRef:\n    name: other\n"}},
			want: []string{
				`lab: databases: MariaDB shop-system/shop: no Backup without a schedule copies it at once: until the first one by the clock nothing could be restored, and the layer would not say so: add one`,
				`lab: databases: Backup shop-system/shop-1: its pods have no label databases.tinyrack.net/client with the database's name: no NetworkPolicy would let them reach it: set spec.podMetadata.labels`,
			},
		},
		"MariaDB without later copies": {
			edits: []edit{{dumps, "  schedule:\n    cron: 7 * * * *\n", ""}},
			want: []string{
				`lab: databases: MariaDB shop-system/shop: no Backup with a schedule copies it: what is written is lost with its disk: add one`,
			},
		},
		"MariaDB that says nothing of its needs": {
			edits: []edit{{shop, "      cpu: 50m\n", ""}},
			want: []string{
				`lab: databases: MariaDB shop-system/shop: resources.requests.cpu is not set: its node would be planned without it: set it`,
			},
		},
		"MariaDB whose copies nobody watches": {
			edits: []edit{{databases, "c.type == 'Complete' && c.message != 'Failed'", "c.type == 'Other'"}},
			want: []string{
				`lab: databases: Backup shop-system/shop-1: the layer has no healthCheckExprs for Backup that looks at Complete: it would be Ready although nothing reaches S3`,
				`lab: databases: Backup shop-system/shop-hourly-1: the layer has no healthCheckExprs for Backup that looks at Complete: it would be Ready although nothing reaches S3`,
			},
		},
		"MariaDB whose restore nobody awaits": {
			edits: []edit{{databases, "c.type == 'BackupRestored' && c.status == 'True'", "c.type == 'Other'"}},
			want: []string{
				`lab: databases: MariaDB shop-system/shop: the layer has no healthCheckExprs for MariaDB that looks at BackupRestored: it would be Ready before what was copied is in it`,
			},
		},
		"MariaDB's password that nobody makes": {
			edits: []edit{{shop, "    name: shop-login\n    key: password\n    generate: true\n", "    name: shop-login\n    key: password\n"}},
			want: []string{
				`lab: databases: MariaDB shop-system/shop: nothing makes Secret shop-login in its namespace: its pods would wait for it for ever: seal it with scripts/seal.sh lab, or correct the name`,
			},
		},
		"MariaDB's copies with credentials that nobody makes": {
			edits: []edit{{dumps, "name: backup-credentials", "name: backup-credential"}},
			want: []string{
				`lab: databases: Backup shop-system/shop-1: nothing makes Secret backup-credential in its namespace: its pods would wait for it for ever: seal it with scripts/seal.sh lab, or correct the name`,
			},
		},
		"database's image without a version": {
			edits: []edit{{
				cluster, "postgresql:17.6@sha256:0123456789012345678901234567890123456789012345678901234567890123", "postgresql",
			}},
			want: []string{
				`lab: databases: Cluster journal-system/journal: image "ghcr.io/cloudnative-pg/postgresql" has no tag: it would be latest, something else on every pull: pin a version`,
			},
		},
		"image that a Kustomization puts in, without a version": {
			edits: []edit{{
				operator, "      newTag: v1.0.0\n      digest: sha256:0123456789012345678901234567890123456789012345678901234567890123\n", "",
			}},
			want: []string{
				`lab: infrastructure-controllers: Kustomization cnpg-system/cnpg: image "ghcr.io/example/operator-of-the-site:" has no tag: it would be latest, something else on every pull: pin a version`,
			},
		},
		"image that a patch puts in, without a version": {
			edits: []edit{{
				operator, "helper:v1.0.0@sha256:0123456789012345678901234567890123456789012345678901234567890123", "helper",
			}},
			want: []string{
				`lab: infrastructure-controllers: Kustomization cnpg-system/cnpg: image "ghcr.io/example/helper" has no tag: it would be latest, something else on every pull: pin a version`,
			},
		},
		"credentials that nobody makes": {
			edits: []edit{{copies, "accessKeyId:\n        name: backup-credentials", "accessKeyId:\n        name: journal-credentials"}},
			want: []string{
				`lab: databases: ObjectStore journal-system/journal-backups: nothing makes Secret journal-credentials in its namespace: its pods would wait for it for ever: seal it with scripts/seal.sh lab, or correct the name`,
			},
		},
		"database in a namespace that nobody makes": {
			edits: []edit{{settings, "namespaces: [journal-system, shop-system]", "namespaces: [other-system, shop-system]"}},
			want: []string{
				`lab: databases: NetworkPolicy journal-system/journal: nothing makes namespace journal-system: it would not be applied: add the Namespace`,
				`lab: databases: Cluster journal-system/journal: nothing makes namespace journal-system: it would not be applied: add the Namespace`,
				`lab: databases: ObjectStore journal-system/journal-backups: nothing makes namespace journal-system: it would not be applied: add the Namespace`,
				`lab: databases: ScheduledBackup journal-system/journal: nothing makes namespace journal-system: it would not be applied: add the Namespace`,
				`lab: databases: ObjectStore journal-system/journal-backups: nothing makes Secret backup-credentials in its namespace: its pods would wait for it for ever: seal it with scripts/seal.sh lab, or correct the name`,
				`lab: databases: ObjectStore journal-system/journal-backups: nothing makes Secret backup-credentials in its namespace: its pods would wait for it for ever: seal it with scripts/seal.sh lab, or correct the name`,
				open("other-system"),
			},
		},
		"database's namespace in git": {
			edits: withExtra("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: journal-system\n"),
			want: []string{
				`lab: apps: Namespace journal-system: belongs to Pulumi: Flux and Pulumi would undo each other's changes: remove it from git`,
			},
		},
		"image without tag": {
			edits: []edit{{deployment, "memos:0.25.0", "memos"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: image "docker.io/neosmemo/memos" has no tag: it would be latest, something else on every pull: pin a version`,
			},
		},
		"image latest": {
			edits: []edit{{deployment, "memos:0.25.0", "memos:latest"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: image "docker.io/neosmemo/memos:latest" is not pinned: latest is something else on every pull: pin a version`,
			},
		},
		"image without registry": {
			edits: []edit{{deployment, "docker.io/neosmemo/memos", "neosmemo/memos"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: image "neosmemo/memos:0.25.0" names no registry: each node would choose one: write it in full, as in docker.io/library/…`,
			},
		},
		"image with a malformed digest": {
			edits: []edit{{deployment, "memos:0.25.0", "memos:0.25.0@sha1:00"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: image "docker.io/neosmemo/memos:0.25.0@sha1:00" has a malformed digest: no node could pull it`,
			},
		},
		"chart image without tag": {
			edits: []edit{{release, "      tag: 0.40.0\n", ""}},
			want: []string{
				`lab: infrastructure-controllers: HelmRelease sealed-secrets/sealed-secrets: image "docker.io/bitnami/sealed-secrets-controller:" has no tag: it would be latest, something else on every pull: pin a version`,
			},
		},
		"chart version a range": {
			edits: []edit{{release, "version: 2.19.3", "version: 2.x"}},
			want: []string{
				`lab: infrastructure-controllers: HelmRelease sealed-secrets/sealed-secrets: chart version "2.x" is not one exact version: the same commit could install something else tomorrow`,
			},
		},
		"chart version that only begins like one": {
			edits: []edit{{release, "version: 2.19.3", "version: 2.19.3 - 3"}},
			want: []string{
				`lab: infrastructure-controllers: HelmRelease sealed-secrets/sealed-secrets: chart version "2.19.3 - 3" is not one exact version: the same commit could install something else tomorrow`,
			},
		},
		"plain Secret": {
			edits: withExtra("apiVersion: v1\nkind: Secret\nmetadata:\n  name: memos-token\n  namespace: " +
				"memos-system\nstringData:\n  token: abc\n"),
			want: []string{
				`lab: apps: Secret memos-system/memos-token: has its values in clear in git: everyone who can read the repository has them: seal them with scripts/seal.sh lab, and replace them`,
			},
		},
		"plain Secret, encoded": {
			edits: withExtra("apiVersion: v1\nkind: Secret\nmetadata:\n  name: memos-token\n" +
				"  namespace: memos-system\ndata:\n  token: YWJj\n"),
			want: []string{
				`lab: apps: Secret memos-system/memos-token: has its values in clear in git: everyone who can read the repository has them: seal them with scripts/seal.sh lab, and replace them`,
			},
		},
		"private key": {
			edits: []edit{{"clusters/lab/private.pem", "", "-----BEGIN RSA PRIVATE KEY-----\n"}},
			want: []string{
				`clusters/lab/private.pem: holds a private key: everyone who can read the repository has it: remove it, and replace the key`,
			},
		},
		"secret nobody makes": {
			edits: []edit{{deployment, "          env:\n", "          envFrom:\n            - secretRef:\n" +
				"                name: memos-login\n            - configMapRef:\n                name: cluster-vars\n" +
				"          env:\n"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: nothing makes Secret memos-login in its namespace: its pods would wait for it for ever: seal it with scripts/seal.sh lab, or correct the name`,
				`lab: apps: Deployment memos-system/memos: nothing makes ConfigMap cluster-vars in its namespace: its pods would wait for it for ever: add it, or correct the name`,
			},
		},
		"volume claim nobody makes": {
			edits: []edit{{deployment, "claimName: memos", "claimName: notes"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: nothing makes PersistentVolumeClaim notes in its namespace: its pods would wait for it for ever: add it, or correct the name`,
			},
		},
		"volume without a backup": {
			edits: []edit{{volume, "    backup.tinyrack.net/none: memos", "    backup.tinyrack.net/nothing: memos"}},
			want: []string{
				`lab: apps: PersistentVolumeClaim memos-system/memos: nothing backs it up: what is on it is lost with its disk: keep the data in a database with a backup, or on a volume of a class that a RecurringJob copies, or say in the annotation backup.tinyrack.net/none why none is needed`,
			},
		},
		"container that requests nothing and has no limit": {
			edits: []edit{{
				deployment,
				"            requests:\n              cpu: 50m\n              memory: 64Mi\n            limits:\n              memory: 256Mi\n",
				"            limits:\n              cpu: \"1\"\n",
			}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: container memos requests no cpu: the scheduler would count it as none and overload a node: set resources.requests.cpu`,
				`lab: apps: Deployment memos-system/memos: container memos requests no memory: the scheduler would count it as none and overload a node: set resources.requests.memory`,
				`lab: apps: Deployment memos-system/memos: container memos has no limit of memory: one that leaks would take the node's, and others would be killed for it: set resources.limits.memory`,
			},
		},
		"init container that requests no memory": {
			edits: []edit{{
				deployment, "      containers:\n",
				"      initContainers:\n        - name: first\n          image: docker.io/neosmemo/memos:0.25.0\n          resources:\n" +
					"            requests: {cpu: 1m}\n            limits: {memory: 1Mi}\n          securityContext:\n" +
					"            allowPrivilegeEscalation: false\n            capabilities: {drop: [ALL]}\n      containers:\n",
			}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: container first requests no memory: the scheduler would count it as none and overload a node: set resources.requests.memory`,
			},
		},
		"cron job that requests no cpu": {
			edits: withExtra("apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: memos-clean\n  namespace: memos-system\nspec:\n" +
				"  schedule: 0 * * * *\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          restartPolicy: Never\n" +
				"          securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}\n          containers:\n" +
				"            - name: clean\n              image: docker.io/neosmemo/memos:0.25.0\n" +
				"              securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}\n" +
				"              resources: {requests: {memory: 1Mi}, limits: {memory: 1Mi}}\n"),
			want: []string{
				`lab: apps: CronJob memos-system/memos-clean: container clean requests no cpu: the scheduler would count it as none and overload a node: set resources.requests.cpu`,
			},
		},
		"pod that its namespace refuses": {
			edits: []edit{{deployment, "            allowPrivilegeEscalation: false\n", "            privileged: true\n"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: namespace memos-system is restricted and would refuse its pods: privileged (container "memos" must not set securityContext.privileged=true), allowPrivilegeEscalation != false (container "memos" must set securityContext.allowPrivilegeEscalation=false)`,
			},
		},
		"pod that the cluster's default refuses": {
			edits: []edit{
				{deployment, "    spec:\n", "    spec:\n      hostNetwork: true\n"},
				{"apps/base/memos/kustomization.yaml", "  - namespace.yaml\n", ""},
				{"apps/base/memos/kustomization.yaml", "namespace: memos-system", "namespace: default"},
				{namespace, "", "{}"},
				{settings, "memos.memos-system.", "memos.default."},
			},
			want: []string{
				`lab: apps: Deployment default/memos: namespace default is baseline and would refuse its pods: host namespaces (hostNetwork=true)`,
				unread(namespace),
				`apps/base/memos: NetworkPolicy memos is in namespace "default": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
				`apps/base/memos: NetworkPolicy memos-connectors is in namespace "default": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
				`apps/base/memos: PersistentVolumeClaim memos is in namespace "default": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
				`apps/base/memos: Deployment memos is in namespace "default": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
				`apps/base/memos: Service memos is in namespace "default": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
			},
		},
		"namespace without a pod security level": {
			edits: []edit{{namespace, "  labels:\n    pod-security.kubernetes.io/enforce: restricted\n", ""}},
			want: []string{
				`lab: apps: Namespace memos-system: label pod-security.kubernetes.io/enforce is "": the cluster's default would hold, under which a pod may run as root: set restricted`,
			},
		},
		"namespace with a misspelt pod security level": {
			edits: []edit{{namespace, "enforce: restricted", "enforce: strict"}},
			want: []string{
				`lab: apps: Namespace memos-system: label pod-security.kubernetes.io/enforce is "strict": the cluster's default would hold, under which a pod may run as root: set restricted`,
			},
		},
		"namespace that is privileged without a reason": {
			edits: []edit{{namespace, "enforce: restricted", "enforce: privileged"}},
			want: []string{
				`lab: apps: Namespace memos-system: is privileged and says nowhere why: nobody could tell whether it has to be: set restricted, or say why in the annotation pod-security.tinyrack.net/reason`,
			},
		},
		"namespace that is baseline without a reason": {
			edits: []edit{{namespace, "enforce: restricted", "enforce: baseline"}},
			want: []string{
				`lab: apps: Namespace memos-system: is baseline and says nowhere why: nobody could tell whether it has to be: set restricted, or say why in the annotation pod-security.tinyrack.net/reason`,
			},
		},
		"namespace that is privileged with a reason": {
			edits: []edit{
				{namespace, "enforce: restricted", "enforce: privileged"},
				{namespace, "  annotations:\n", "  annotations:\n    pod-security.tinyrack.net/reason: it mounts disks\n"},
				{deployment, "            allowPrivilegeEscalation: false\n", "            privileged: true\n"},
			},
		},
		"Service that selects another namespace's pods": {
			edits: withExtra("apiVersion: v1\nkind: Service\nmetadata:\n  name: memos-extra\n  namespace: sealed-secrets\nspec:\n" +
				"  selector:\n    app.kubernetes.io/name: memos\n  ports:\n    - port: 80\n"),
			want: []string{
				`lab: apps: Service sealed-secrets/memos-extra: selects no pod of the tree (app.kubernetes.io/name=memos): whoever asks it gets no answer: correct its selector or the pods' labels`,
			},
		},
		"Service without a selector": {
			edits: withExtra("apiVersion: v1\nkind: Service\nmetadata:\n  name: memos-extra\n  namespace: memos-system\nspec:\n" +
				"  ports:\n    - port: 80\n"),
		},
		"hostname for everything below": {
			edits: []edit{{settings, "hostname: notes.lab.test", "hostname: \"*.lab.test\""}},
		},
		"hostname outside the cluster": {
			edits: []edit{{settings, "    ingress:\n", "    ingress:\n      - hostname: nas.lab.test\n        service: http://192.0.2.1\n"}},
		},
		"hostname whose pods every namespace reaches": {
			edits: []edit{{network, "            matchLabels:\n              kubernetes.io/metadata.name: cloudflared\n", "            matchLabels: {}\n"}},
		},
		"hostname whose pods everybody reaches": {
			edits: []edit{{
				network, "    - from:\n        - namespaceSelector:\n            matchLabels:\n              " +
					"kubernetes.io/metadata.name: cloudflared\n          podSelector:\n            matchLabels:\n              " +
					"app.kubernetes.io/name: cloudflared\n      ports:\n", "    - ports:\n",
			}},
		},
		"Service that every namespace reaches and no hostname leads to": {
			edits: []edit{
				{settings, "    ingress:\n      - hostname: notes.lab.test\n        service: http://memos.memos-system.svc.cluster.local:5230\n", ""},
				{network, "            matchLabels:\n              kubernetes.io/metadata.name: cloudflared\n", "            matchLabels: {}\n"},
				{deployment, "https://notes.${zone}", "http://localhost"},
			},
		},
		"Service that selects nobody": {
			edits: []edit{
				{service, "app.kubernetes.io/name: memos", "app.kubernetes.io/name: notes"},
				{network, "  podSelector:\n    matchLabels:\n      app.kubernetes.io/name: memos\n", "  podSelector: {}\n"},
			},
			want: []string{
				`lab: apps: Service memos-system/memos: selects no pod of the tree (app.kubernetes.io/name=notes): whoever asks it gets no answer: correct its selector or the pods' labels`,
			},
		},
		"Service whose port no pod has": {
			edits: []edit{{service, "targetPort: http", "targetPort: web"}},
			want: []string{
				`lab: apps: Service memos-system/memos: no pod behind it has a port named web: nothing would answer there: correct targetPort or the container's port`,
			},
		},
		"hostname without its Service": {
			edits: []edit{{settings, "http://memos.", "http://notes."}},
			want: []string{
				`lab: cloudflare.ingress: notes.lab.test leads to Service memos-system/notes, which is not in the tree: visitors would get 502: add it, or take the hostname away`,
				`lab: Service memos-system/memos: a NetworkPolicy lets visitors in, and no hostname leads there: add it to cloudflare.ingress in Pulumi.lab.yaml, or take the policy away`,
			},
		},
		"hostname to another port": {
			edits: []edit{{settings, ":5230", ""}},
			want: []string{
				`lab: cloudflare.ingress: notes.lab.test leads to Service memos-system/memos, which has no port 80: visitors would get 502: correct one of them`,
			},
		},
		"hostname whose pods the connectors cannot reach": {
			edits: []edit{{network, "kubernetes.io/metadata.name: cloudflared", "kubernetes.io/metadata.name: elsewhere"}},
			want: []string{
				`lab: cloudflare.ingress: notes.lab.test leads to Service memos-system/memos, and no NetworkPolicy lets namespace cloudflared reach its pods: visitors would get 502: add one`,
			},
		},
		"hostname whose policy is for other pods": {
			edits: []edit{{network, "      app.kubernetes.io/name: memos\n", "      app.kubernetes.io/name: notes\n"}},
			want: []string{
				`lab: cloudflare.ingress: notes.lab.test leads to Service memos-system/memos, and no NetworkPolicy lets namespace cloudflared reach its pods: visitors would get 502: add one`,
			},
		},
		"application that calls itself by an unlisted hostname": {
			edits: []edit{{deployment, "https://notes.${zone}", "https://note.${zone}"}},
			want: []string{
				`lab: apps: Deployment memos-system/memos: names note.lab.test, which is no hostname of the stack: visitors sent there would get nothing: add it to cloudflare.ingress in Pulumi.lab.yaml, or correct it`,
			},
		},
		"namespace of Pulumi": {
			edits: withExtra("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: sealed-secrets\n"),
			want: []string{
				`lab: apps: Namespace sealed-secrets: belongs to Pulumi: Flux and Pulumi would undo each other's changes: remove it from git`,
			},
		},
		"variables of Pulumi": {
			edits: withExtra("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: cluster-vars\n  namespace: flux-system\n"),
			want: []string{
				`lab: apps: ConfigMap flux-system/cluster-vars: belongs to Pulumi: Flux and Pulumi would undo each other's changes: remove it from git`,
			},
		},
		"object without namespace": {
			edits: withExtra("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: memos-extra\n"),
			want: []string{
				`lab: apps: ConfigMap memos-extra: has no namespace: it would not be applied: set one`,
			},
		},
		"namespace nobody makes": {
			edits: withExtra("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: memos-extra\n  namespace: nowhere\n"),
			want: []string{
				`lab: apps: ConfigMap nowhere/memos-extra: nothing makes namespace nowhere: it would not be applied: add the Namespace`,
			},
		},
		"object in two layers": {
			edits: []edit{{"infrastructure/configs/lab/kustomization.yaml", "resources:\n", "resources:\n  - " +
				"../../../apps/base/memos\n"}},
			want: []string{
				`lab: apps: Namespace memos-system: is applied by infrastructure-configs too: the layers would undo each other's changes: keep it in one`,
				`lab: apps: NetworkPolicy memos-system/memos: is applied by infrastructure-configs too: the layers would undo each other's changes: keep it in one`,
				`lab: apps: NetworkPolicy memos-system/memos-connectors: is applied by infrastructure-configs too: the layers would undo each other's changes: keep it in one`,
				`lab: apps: PersistentVolumeClaim memos-system/memos: is applied by infrastructure-configs too: the layers would undo each other's changes: keep it in one`,
				`lab: apps: Deployment memos-system/memos: is applied by infrastructure-configs too: the layers would undo each other's changes: keep it in one`,
				`lab: apps: Service memos-system/memos: is applied by infrastructure-configs too: the layers would undo each other's changes: keep it in one`,
			},
		},
		"file nobody reads": {
			edits: []edit{{"apps/lab/forgotten.yaml", "", "{}"}},
			want: []string{
				`apps/lab/forgotten.yaml: is read by no environment: what it says never reaches a cluster: add it to a kustomization.yaml or delete it`,
			},
		},
		"file of the other extension nobody reads": {
			edits: []edit{{"apps/lab/forgotten.yml", "", "{}"}},
			want: []string{
				`apps/lab/forgotten.yml: is read by no environment: what it says never reaches a cluster: add it to a kustomization.yaml or delete it`,
			},
		},
		"folder and namespace differ": {
			edits: []edit{
				{"apps/base/memos/kustomization.yaml", "namespace: memos-system", "namespace: notes"},
				{settings, "memos.memos-system.", "memos.notes."},
			},
			want: []string{
				`apps/base/memos: Namespace notes is in namespace "notes": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
				`apps/base/memos: NetworkPolicy memos is in namespace "notes": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
				`apps/base/memos: NetworkPolicy memos-connectors is in namespace "notes": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
				`apps/base/memos: PersistentVolumeClaim memos is in namespace "notes": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
				`apps/base/memos: Deployment memos is in namespace "notes": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
				`apps/base/memos: Service memos is in namespace "notes": a folder's objects live in namespace memos or memos-system, so that one leads to the other`,
			},
		},
		"object not named after its folder": {
			edits: []edit{{service, "  name: memos\n", "  name: web\n"}, {settings, "http://memos.", "http://web."}},
			want: []string{
				`apps/base/memos: Service web is not named after its folder: call it memos or memos-…`,
			},
		},
		"namespace whose policy is for some pods": {
			edits: []edit{{network, "podSelector: {}", "podSelector:\n    matchLabels:\n      app.kubernetes.io/name: memos"}},
			want:  []string{open("memos-system")},
		},
		"namespace whose policy is for pods without a label": {
			edits: []edit{{
				network, "podSelector: {}",
				"podSelector:\n    matchExpressions:\n      - key: app.kubernetes.io/name\n        operator: DoesNotExist",
			}},
			want: []string{open("memos-system")},
		},
		"namespace whose policy lets everything in": {
			edits: []edit{{network, "podSelector: {}", "podSelector: {}\n  ingress:\n    - {}"}},
			want:  []string{open("memos-system")},
		},
		"namespace whose policy lets everything out": {
			edits: []edit{{network, "podSelector: {}", "podSelector: {}\n  egress:\n    - {}"}},
			want:  []string{open("memos-system")},
		},
		"namespace whose policy is for one direction": {
			edits: []edit{{network, "    - Egress\n", ""}},
			want:  []string{open("memos-system")},
		},
		"namespace whose policy is for the other direction": {
			edits: []edit{{network, "    - Ingress\n", ""}},
			want:  []string{open("memos-system")},
		},
		"namespace whose policy lies in another": {
			edits: []edit{{"infrastructure/controllers/base/sealed-secrets/network.yaml", "namespace: sealed-secrets", "namespace: default"}},
			want: []string{
				open("sealed-secrets"),
				`infrastructure/controllers/base/sealed-secrets: NetworkPolicy sealed-secrets is in namespace "default": a folder's objects live in namespace sealed-secrets or sealed-secrets-system, so that one leads to the other`,
			},
		},
		"given namespaces without policies": {
			edits: []edit{
				{"infrastructure/controllers/lab/kustomization.yaml", "  - ../base/default\n  - ../base/kube-system\n", ""},
			},
			want: []string{
				open("default"), open("kube-system"),
				unread("infrastructure/controllers/base/default/kustomization.yaml"),
				unread("infrastructure/controllers/base/default/network.yaml"),
				unread("infrastructure/controllers/base/kube-system/kustomization.yaml"),
				unread("infrastructure/controllers/base/kube-system/network.yaml"),
			},
		},
		"certificate missing": {
			edits: []edit{{"clusters/lab/sealing.crt", "", "nothing"}},
			want: []string{
				`lab: clusters/lab/sealing.crt: is not a PEM certificate: nothing can be sealed for this environment: run scripts/sealing-key.sh lab`,
			},
		},
		"sealed for another name": {
			edits: []edit{{canary, "  name: \"canary\"\n", "  name: \"bird\"\n"}},
			want: []string{
				`lab: infrastructure-configs: SealedSecret sealed-secrets/bird: was sealed for "sealed-secrets/canary": the cluster cannot open it under another name: seal it again with scripts/seal.sh lab`,
				`lab: infrastructure-configs: SealedSecret sealed-secrets/bird: its template has name "canary": the Secret would not be the one that is named here: seal it again with scripts/seal.sh lab`,
			},
		},
		"sealed secret moved by kustomize": {
			edits: []edit{{"infrastructure/configs/lab/kustomization.yaml", "resources:\n", "namespace: default\nresources:\n"}},
			want: []string{
				`lab: infrastructure-configs: SealedSecret default/canary: was sealed for "sealed-secrets/canary": the cluster cannot open it under another name: seal it again with scripts/seal.sh lab`,
				`lab: infrastructure-configs: SealedSecret default/canary: its template has namespace "sealed-secrets": the Secret would not be the one that is named here: seal it again with scripts/seal.sh lab`,
			},
		},
		"sealed with another key": {
			edits: []edit{{canary, "sealing.tinyrack.net/key: sha256:", "sealing.tinyrack.net/key: sha256:0"}},
			want: []string{
				`lab: infrastructure-configs: SealedSecret sealed-secrets/canary: was sealed with another key than that of clusters/lab/sealing.crt: the cluster cannot open it: seal it again with scripts/seal.sh lab`,
			},
		},
		"sealed for every namespace": {
			edits: []edit{{canary, "  annotations:\n", "  annotations:\n    sealedsecrets.bitnami.com/cluster-wide: " +
				"\"true\"\n"}},
			want: []string{
				`lab: infrastructure-configs: SealedSecret sealed-secrets/canary: is annotated sealedsecrets.bitnami.com/cluster-wide: anyone who can create a SealedSecret could copy it and read it: seal it again with scripts/seal.sh lab`,
			},
		},
		"sealed for its namespace": {
			edits: []edit{{
				canary, "  annotations:\n", "  annotations:\n    sealedsecrets.bitnami.com/namespace-wide: \"true\"\n",
			}},
			want: []string{
				`lab: infrastructure-configs: SealedSecret sealed-secrets/canary: is annotated sealedsecrets.bitnami.com/namespace-wide: anyone who can create a SealedSecret could copy it and read it: seal it again with scripts/seal.sh lab`,
			},
		},
		"sealed value cut": {
			edits: []edit{{canary, "\"message\": ", "\"message\": AAAA\n    \"rest\": "}},
			want: []string{
				`lab: infrastructure-configs: SealedSecret sealed-secrets/canary: message is not a value sealed with this key, or was cut: the cluster cannot open it: seal it again with scripts/seal.sh lab`,
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := copyTree(t)
			for _, e := range test.edits {
				e.apply(t, root)
			}
			says(t, root, test.want)
		})
	}
}

// TestRefusesWhatPulumiOwns puts each object of the program into the tree.
func TestRefusesWhatPulumiOwns(t *testing.T) {
	for id, apiVersion := range map[string]string{
		"Namespace flux-system":                 "v1",
		"Namespace sealed-secrets":              "v1",
		"ConfigMap flux-system/cluster-vars":    "v1",
		"Secret flux-system/flux-system":        "v1",
		"Secret kube-system/k3s-etcd-s3-secret": "v1",
		"Namespace cloudflared":                 "v1",
		"Secret cloudflared/tunnel-token":       "v1",
		"FluxInstance flux-system/flux":         "fluxcd.controlplane.io/v1",
		"GitRepository flux-system/flux-system": "source.toolkit.fluxcd.io/v1",
		"Kustomization flux-system/flux-system": "kustomize.toolkit.fluxcd.io/v1",
	} {
		t.Run(id, func(t *testing.T) {
			root := copyTree(t)
			kind, name, _ := strings.Cut(id, " ")
			text := "apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata:\n"
			if namespace, own, found := strings.Cut(name, "/"); found {
				text, name = text+"  namespace: "+namespace+"\n", own
			}
			for _, e := range withExtra(text + "  name: " + name + "\n") {
				e.apply(t, root)
			}
			want := "lab: apps: " + id + ": belongs to Pulumi: "
			if err := Check(root); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("problems are %v, want one with %q", err, want)
			}
		})
	}
}

func (e edit) apply(t *testing.T, root string) {
	t.Helper()
	path := filepath.Join(root, e.file)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	text := e.replacement
	if e.old != "" {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(before), e.old) {
			t.Fatalf("%s has no %q: the edit would change nothing", e.file, e.old)
		}
		text = strings.Replace(string(before), e.old, e.replacement, 1)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
