package gitops

// isGiven tells of the Secrets and ConfigMaps that exist without the tree: the program's, and those that Kubernetes
// makes in every namespace.
func (e *environment) isGiven(kind, namespace, name string) bool {
	return e.ownedByPulumi(kind+" "+namespace+"/"+name) || kind == "ConfigMap" && name == "kube-root-ca.crt"
}

// checkReferences wants whatever a pod reads at its start to be there: without it the pod waits for ever, and with it
// the layer.
func (e *environment) checkReferences(objects []object) {
	there := map[string]bool{}
	for _, o := range objects {
		kind := o.GetKind()
		if kind == "SealedSecret" {
			kind = "Secret"
		}
		there[kind+" "+o.GetNamespace()+"/"+o.GetName()] = true
		for _, name := range madeOf(o) {
			there["Secret "+o.GetNamespace()+"/"+name] = true
		}
	}
	for _, o := range objects {
		walk(o.Object, func(node map[string]any) {
			for _, ref := range referencesOf(node) {
				if !there[ref.Kind+" "+o.GetNamespace()+"/"+ref.Name] && !e.isGiven(ref.Kind, o.GetNamespace(), ref.Name) {
					e.problem(o.layer, "%s: nothing makes %s %s in its namespace: its pods would wait for it for ever: "+
						"%s, or correct the name", o.id(), ref.Kind, ref.Name, remedy(ref.Kind, e.name))
				}
			}
		})
	}
}

// referencesOf are the Secrets, ConfigMaps and volume claims that one part of a pod's specification names, without the
// optional ones.
func referencesOf(node map[string]any) []reference {
	var found []reference
	add := func(kind string, value any, field string) {
		part, isObject := value.(map[string]any)
		if name, _ := part[field].(string); isObject && name != "" && part["optional"] != true {
			found = append(found, reference{Kind: kind, Name: name})
		}
	}
	add("Secret", node["secretKeyRef"], "name")
	// Of an ObjectStore, and of a MariaDB with its Backups.
	for _, field := range []string{
		"accessKeyId", "secretAccessKey", "region", "accessKeyIdSecretKeyRef", "secretAccessKeySecretKeyRef",
		"rootPasswordSecretKeyRef", "passwordSecretKeyRef",
	} {
		add("Secret", node[field], "name")
	}
	// Of a BackupTarget.
	add("Secret", node, "credentialSecret")
	add("Secret", node["secretRef"], "name")
	add("ConfigMap", node["configMapKeyRef"], "name")
	add("ConfigMap", node["configMapRef"], "name")
	// Of a volume; in a projected one the source has a name instead.
	for _, field := range []string{"secretName", "name"} {
		add("Secret", node["secret"], field)
	}
	add("ConfigMap", node["configMap"], "name")
	add("PersistentVolumeClaim", node["persistentVolumeClaim"], "claimName")
	if pulls, isList := node["imagePullSecrets"].([]any); isList {
		for _, pull := range pulls {
			add("Secret", pull, "name")
		}
	}
	return found
}

func remedy(kind, environment string) string {
	if kind == "Secret" {
		return "seal it with scripts/seal.sh " + environment
	}
	return "add it"
}
