package gitops

import (
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Longhorn in the tree of the refusal tests.
const (
	longhorn    = "infrastructure/configs/base/longhorn/longhorn.yaml"
	labConfigs  = "infrastructure/configs/lab/kustomization.yaml"
	longhornYML = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: longhorn
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
---
apiVersion: longhorn.io/v1beta2
kind: BackupTarget
metadata:
  name: default
spec:
  backupTargetURL: s3://${backups_bucket}@${backups_region}/longhorn/
  credentialSecret: backup-credentials
---
apiVersion: longhorn.io/v1beta2
kind: RecurringJob
metadata:
  name: longhorn-backup
spec:
  task: backup
  cron: 17 0,12 * * *
  groups: [copies]
  retain: 60
---
apiVersion: longhorn.io/v1beta2
kind: RecurringJob
metadata:
  name: longhorn-snapshot
spec:
  task: snapshot
  cron: 17 6,18 * * *
  groups: [states]
  retain: 4
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: longhorn-retain
provisioner: driver.longhorn.io
parameters:
  numberOfReplicas: "1"
  recurringJobSelector: '[{"name": "copies", "isGroup": true}]'
`
)

// The layer in which Longhorn restores, and what is in it.
const (
	volumesLayerYML = `apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: infrastructure-volumes
  namespace: flux-system
spec:
  dependsOn:
    - name: infrastructure-configs
  interval: 10m
  retryInterval: 1m
  timeout: 1h
  sourceRef:
    kind: GitRepository
    name: flux-system
  path: ./infrastructure/volumes/lab
  prune: true
  wait: true
  patches:
    - target:
        group: longhorn.io
        kind: SystemRestore
      patch: |
        $patch: delete
        apiVersion: longhorn.io/v1beta2
        kind: SystemRestore
        metadata:
          name: target
  healthCheckExprs:
    - apiVersion: longhorn.io/v1beta2
      kind: SystemRestore
      current: status.state == 'Completed'
  postBuild:
    substituteFrom:
      - kind: ConfigMap
        name: cluster-vars
`
	systemRestoreYML = `apiVersion: longhorn.io/v1beta2
kind: SystemRestore
metadata:
  name: longhorn
spec:
  systemBackup: none
`
)

// withRestore adds the layer in which Longhorn restores.
func withRestore(edits ...edit) []edit {
	const kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
	return append([]edit{
		{infrastructure, "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n" +
			"  name: infrastructure-controllers\n", volumesLayerYML + "---\n" +
			"apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: infrastructure-controllers\n"},
		{"infrastructure/volumes/lab/kustomization.yaml", "", kustomization + "resources:\n  - ../base/longhorn\n"},
		{"infrastructure/volumes/base/longhorn/kustomization.yaml", "", kustomization +
			"namespace: longhorn-system\nresources:\n  - restore.yaml\n"},
		{"infrastructure/volumes/base/longhorn/restore.yaml", "", systemRestoreYML},
	}, edits...)
}

// withLonghorn adds Longhorn and puts the volume of memos on it.
func withLonghorn() []edit {
	return []edit{
		{settings, "    namespaces: [journal-system", "    volumes: true\n    namespaces: [journal-system"},
		{labConfigs, "resources:\n", "resources:\n  - ../base/longhorn\n"},
		{"infrastructure/configs/base/longhorn/kustomization.yaml", "", "apiVersion: kustomize.config.k8s.io/v1beta1\n" +
			"kind: Kustomization\nnamespace: longhorn-system\nresources:\n  - longhorn.yaml\n"},
		{longhorn, "", longhornYML},
		{infrastructure, "  healthCheckExprs:\n", "  healthCheckExprs:\n    - apiVersion: longhorn.io/v1beta2\n" +
			"      kind: BackupTarget\n      current: status.available\n"},
		{volume, "spec:\n", "spec:\n  storageClassName: longhorn-retain\n"},
		{volume, "    backup.tinyrack.net/none: memos keeps its notes in SQLite until its database is PostgreSQL\n", ""},
	}
}

// TestVolumes breaks a tree with Longhorn in one way at a time and compares everything that Check then says.
func TestVolumes(t *testing.T) {
	const (
		lost = `lab: apps: PersistentVolumeClaim memos-system/memos: nothing backs it up: what is on it is lost with its disk: ` +
			`keep the data in a database with a backup, or on a volume of a class that a RecurringJob copies, or say in the ` +
			`annotation backup.tinyrack.net/none why none is needed`
		selector = `'[{"name": "copies", "isGroup": true}]'`
		pod      = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: memos-probe\n  namespace: longhorn-system\nspec:\n" +
			"  hostPID: true\n  containers:\n    - name: probe\n      image: docker.io/library/probe:1.0.0\n" +
			"      resources: {requests: {cpu: 1m, memory: 1Mi}, limits: {memory: 1Mi}}\n"
	)
	for name, test := range map[string]struct {
		edits []edit
		want  []string
	}{
		"as it should be": {},
		"job by its own name": {edits: []edit{
			{longhorn, selector, `'[{"name": "longhorn-backup", "isGroup": false}]'`},
		}},
		"job that copies whatever has changed": {edits: []edit{{longhorn, "task: backup\n", "task: backup-force-create\n"}}},
		"target by its name": {edits: []edit{
			{longhorn, "parameters:\n", "parameters:\n  backupTargetName: default\n"},
		}},
		"pods that ask for everything": {edits: withExtra(pod)},
		"claim of no class": {
			edits: []edit{{volume, "  storageClassName: longhorn-retain\n", ""}}, want: []string{lost},
		},
		"claim of a class that is misspelt": {
			edits: []edit{{volume, "longhorn-retain", "longhorn-retian"}}, want: []string{lost},
		},
		"class of another driver": {
			edits: []edit{{longhorn, "provisioner: driver.longhorn.io", "provisioner: rancher.io/local-path"}},
			want:  []string{lost},
		},
		"class of no job": {
			edits: []edit{{longhorn, "  recurringJobSelector: " + selector + "\n", ""}}, want: []string{lost},
		},
		"class whose jobs cannot be read": {
			edits: []edit{{longhorn, selector, `'[{"name": "copies", "isGroup": true}'`}}, want: []string{lost},
		},
		"class of a group that only stays on the disk": {
			edits: []edit{{longhorn, selector, `'[{"name": "states", "isGroup": true}]'`}}, want: []string{lost},
		},
		"class of a job by the name of its group": {
			edits: []edit{{longhorn, selector, `'[{"name": "copies", "isGroup": false}]'`}}, want: []string{lost},
		},
		"class of a group by the name of its job": {
			edits: []edit{{longhorn, selector, `'[{"name": "longhorn-backup", "isGroup": true}]'`}}, want: []string{lost},
		},
		"class of a target that nobody makes": {
			edits: []edit{{longhorn, "parameters:\n", "parameters:\n  backupTargetName: elsewhere\n"}}, want: []string{lost},
		},
		"target that is not the class' own": {
			edits: []edit{{longhorn, "  name: default\n", "  name: longhorn-elsewhere\n"}}, want: []string{lost},
		},
		"claim that is copied and says it is not": {
			edits: []edit{{volume, "  annotations:\n", "  annotations:\n    backup.tinyrack.net/none: not yet\n"}},
			want: []string{
				`lab: apps: PersistentVolumeClaim memos-system/memos: says in the annotation backup.tinyrack.net/none that ` +
					`nothing backs it up, and a RecurringJob copies the volumes of its class longhorn-retain: whoever reads it would ` +
					`not look for the copies: remove the annotation`,
			},
		},
		"layer that does not look at the target": {
			edits: []edit{{infrastructure, "current: status.available", "current: status.lastSyncedAt != null"}},
			want: []string{
				`lab: infrastructure-configs: BackupTarget longhorn-system/default: the layer has no healthCheckExprs for ` +
					`BackupTarget that looks at available: it would be Ready although no copy of a volume reaches S3`,
			},
		},
		"credentials that nobody makes": {
			edits: []edit{{longhorn, "credentialSecret: backup-credentials", "credentialSecret: s3"}},
			want: []string{
				`lab: infrastructure-configs: BackupTarget longhorn-system/default: nothing makes Secret s3 in its namespace: ` +
					`its pods would wait for it for ever: seal it with scripts/seal.sh lab, or correct the name`,
			},
		},
		"restore that stays out": {edits: withRestore()},
		"restore that stays in": {
			edits: withRestore(edit{infrastructure, "        $patch: delete\n", ""}),
			want: []string{
				`lab: infrastructure-volumes: SystemRestore longhorn-system/longhorn: the one patch of its layer does not take it ` +
					`out ($patch: delete): every site would begin with the volumes of another, or wait for them for ever`,
			},
		},
		"restore that nothing waits for": {
			edits: withRestore(edit{infrastructure, "current: status.state == 'Completed'", "current: status.state != ''"}),
			want: []string{
				`lab: infrastructure-volumes: SystemRestore longhorn-system/longhorn: the layer has no healthCheckExprs for ` +
					`SystemRestore that looks at Completed: what claims a volume would make an empty one meanwhile`,
			},
		},
		"namespace of the program's own": {
			edits: withExtra("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: longhorn-system\n"),
			want: []string{
				`lab: apps: Namespace longhorn-system: belongs to Pulumi: Flux and Pulumi would undo each other's changes: ` +
					`remove it from git`,
			},
		},
		"namespace that is not shut": {
			edits: []edit{{longhorn, "[Ingress, Egress]", "[Ingress]"}}, want: []string{open("longhorn-system")},
		},
		"job of a kind that there is none of": {
			edits: []edit{{longhorn, "task: snapshot\n", "task: snapshots\n"}},
			want: []string{
				`lab: infrastructure-configs: RecurringJob longhorn-system/longhorn-snapshot: does not fit its schema: /spec/task: ` +
					`value must be one of "snapshot", "snapshot-force-create", "snapshot-cleanup", "snapshot-delete", "backup", ` +
					`"backup-force-create", "filesystem-trim", "system-backup"`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := copyTree(t)
			for _, e := range append(withLonghorn(), test.edits...) {
				e.apply(t, root)
			}
			says(t, root, test.want)
		})
	}
}

// TestVolumesWithoutTheSetting has Longhorn in a tree whose program does not make its namespace.
func TestVolumesWithoutTheSetting(t *testing.T) {
	root := copyTree(t)
	for _, e := range append(withLonghorn(), edit{settings, "volumes: true", "volumes: false"}) {
		e.apply(t, root)
	}
	const want = "lab: infrastructure-configs: BackupTarget longhorn-system/default: nothing makes namespace " +
		"longhorn-system"
	if err := Check(root); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("problems are %v, want one with %q", err, want)
	}
}

// TestAProgramsPatchStandsInTheLayersPlace changes production's layer as the FluxInstance does, whose patches the
// program writes: what took the SystemRestore out is gone.
func TestAProgramsPatchStandsInTheLayersPlace(t *testing.T) {
	layers := readFile(t, "../clusters/production/infrastructure.yaml")
	_, layer, found := strings.Cut(layers, "---\n# Empty, but in a restore")
	if !found {
		t.Fatal("no layer for a restore of volumes")
	}
	files := filesys.MakeFsInMemory()
	for name, text := range map[string]string{
		"/layer.yaml": "# Empty, but in a restore" + layer,
		"/kustomization.yaml": `resources: [layer.yaml]
patches:
  - target: {kind: Kustomization, name: infrastructure-volumes}
    patch: |
      apiVersion: kustomize.toolkit.fluxcd.io/v1
      kind: Kustomization
      metadata: {name: infrastructure-volumes}
      spec:
        patches:
          - target: {group: longhorn.io, kind: SystemRestore}
            patch: "[]"
`,
	} {
		if err := files.WriteFile(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	built, err := kustomizeBuild(files, "/")
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "$patch: delete") || !strings.Contains(string(text), "patch: '[]'") {
		t.Errorf("the layer is\n%s", text)
	}
}
