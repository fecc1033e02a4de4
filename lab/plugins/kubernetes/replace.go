package kubernetes

import (
	"slices"
	"strings"

	property "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	kinds "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// immutable are the properties that cannot be changed in place, by group and
// kind; the official plugin's.
var immutable = map[string][]string{
	"/PersistentVolumeClaim": {
		"spec.accessModes", "spec.selector", "spec.storageClassName", "spec.volumeName", "spec.volumeMode",
	},
	"/Pod":            {"spec"},
	"/ResourceQuota":  {"spec.scopes"},
	"/Service":        {"spec.clusterIP", "spec.type"},
	"apps/DaemonSet":  {"spec.selector"},
	"apps/Deployment": {"spec.selector"},
	"apps/StatefulSet": {
		"spec.podManagementPolicy", "spec.selector", "spec.serviceName", "spec.volumeClaimTemplates",
	},
	"batch/Job": {"spec.completions", "spec.selector", "spec.template"},
	"rbac.authorization.k8s.io/ClusterRoleBinding": {"roleRef"},
	"rbac.authorization.k8s.io/RoleBinding":        {"roleRef"},
	"storage.k8s.io/StorageClass":                  {"parameters", "provisioner"},
}

// identityPaths make another object out of any kind.
var identityPaths = []string{"kind", "metadata.name", "metadata.namespace"}

// forced are the properties of the kind whose change replaces the object.
func (p *Provider) forced(kind kinds.GroupVersionKind, olds property.PropertyMap) []string {
	paths := append(slices.Clone(identityPaths), immutable[kind.Group+"/"+kind.Kind]...)
	frozen := open(olds["immutable"])
	always := frozen.IsBool() && frozen.BoolValue()
	switch {
	case isSecret(kind):
		paths = append(paths, "type")
		if always || !p.settings.mutableSecrets {
			paths = append(paths, "data", "stringData")
		}
	case isConfigMap(kind) && (always || !p.settings.mutableConfigMaps):
		paths = append(paths, "data", "binaryData")
	}
	return paths
}

// compare returns the difference of two sets of inputs, with the kind of each
// change, and whether the object must be deleted before it can be replaced: it
// keeps its name.
func (p *Provider) compare(
	kind kinds.GroupVersionKind, olds, news property.PropertyMap,
) (diff map[string]plugin.PropertyDiff, deleteFirst bool) {
	diff = schema.Compare(olds, news)
	forced := p.forced(kind, olds)
	replace := false
	for path, change := range diff {
		if property.IsInternalPropertyKey(property.PropertyKey(path)) {
			delete(diff, path)
			continue
		}
		if slices.ContainsFunc(forced, func(f string) bool { return covers(f, path) }) || otherGroup(path, olds, news) {
			change.Kind = change.Kind.AsReplace()
			diff[path] = change
			replace = true
		}
	}
	return diff, replace && sameObject(olds, news)
}

// covers says whether one of two property paths is, or is inside, the other.
func covers(forced, path string) bool {
	return within(path, forced) || within(forced, path)
}

func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// otherGroup says whether apiVersion changes to another group: a new version
// of the same group is the same object.
func otherGroup(path string, olds, news property.PropertyMap) bool {
	if path != "apiVersion" {
		return false
	}
	before, _ := text(olds, "apiVersion")
	after, known := text(news, "apiVersion")
	return !known || group(before) != group(after)
}

func group(apiVersion string) string {
	if g, _, ok := strings.Cut(apiVersion, "/"); ok {
		return g
	}
	return ""
}

func sameObject(olds, news property.PropertyMap) bool {
	for _, path := range [][]string{{"kind"}, {"metadata", "name"}, {"metadata", "namespace"}} {
		before, _ := text(olds, path...)
		after, known := text(news, path...)
		if !known || before != after {
			return false
		}
	}
	return true
}
