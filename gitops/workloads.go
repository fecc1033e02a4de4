package gitops

import (
	"slices"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// ReasonAnnotation stands on a Namespace of the tree whose pods need more than the pod security standard "restricted",
// and says why.
const ReasonAnnotation = "pod-security.tinyrack.net/reason"

// givenLevels are the pod security levels of the namespaces that exist without the tree, where they are not the
// cluster's default: components/k3s and components/credentials set them.
var givenLevels = map[string]podsecurity.Level{
	"kube-system":    podsecurity.LevelPrivileged,
	"sealed-secrets": podsecurity.LevelRestricted,
	"cloudflared":    podsecurity.LevelRestricted,
	"cnpg-system":    podsecurity.LevelRestricted,
}

// workload is an object that makes pods.
type workload struct {
	object
	pods core.PodTemplateSpec
}

// workloadsOf are the workloads among the objects. Those of charts and operators are not seen here.
func (e *environment) workloadsOf(objects []object) []workload {
	var found []workload
	for _, o := range objects {
		var path []string
		switch o.GetKind() {
		case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job":
			path = []string{"spec", "template"}
		case "CronJob":
			path = []string{"spec", "jobTemplate", "spec", "template"}
		case "Pod":
		default:
			continue
		}
		template, _, _ := unstructured.NestedMap(o.Object, path...)
		w := workload{object: o}
		if apiruntime.DefaultUnstructuredConverter.FromUnstructured(template, &w.pods) != nil {
			e.incomplete = true // its schema has been refused
			continue
		}
		found = append(found, w)
	}
	return found
}

func (e *environment) checkWorkloads(objects []object) {
	workloads := e.workloadsOf(objects)
	e.checkLogins(objects, workloads)
	levels := e.podSecurity(objects)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		e.problem("pod security", "%v", err)
		return
	}
	for _, w := range workloads {
		e.checkResources(w)
		level := podsecurity.LevelVersion{Level: levels[w.GetNamespace()], Version: podsecurity.LatestVersion()}
		if level.Level == "" {
			level.Level = podsecurity.LevelBaseline
		}
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &w.pods.ObjectMeta, &w.pods.Spec))
		if !result.Allowed {
			e.problem(w.layer, "%s: namespace %s is %s and would refuse its pods: %s", w.id(), w.GetNamespace(), level.Level,
				result.ForbiddenDetail())
		}
	}
	for _, o := range objects {
		if o.GetKind() == "Service" && !e.incomplete {
			e.checkService(o, workloads)
		}
	}
}

// podSecurity returns the level of each namespace, and wants a reason for each of the tree that is not restricted.
func (e *environment) podSecurity(objects []object) map[string]podsecurity.Level {
	levels := map[string]podsecurity.Level{}
	for name, level := range givenLevels {
		levels[name] = level
	}
	for _, name := range e.databases {
		levels[name] = podsecurity.LevelRestricted
	}
	if e.volumes {
		levels[volumesNamespace] = podsecurity.LevelPrivileged
	}
	for _, o := range objects {
		if o.GetKind() != "Namespace" || e.ownedByPulumi(o.id()) {
			continue
		}
		value := o.GetLabels()[podsecurity.EnforceLevelLabel]
		level, err := podsecurity.ParseLevel(value)
		switch {
		case err != nil:
			e.problem(o.layer, "%s: label %s is %q: the cluster's default would hold, under which a pod may run as root: set "+
				"restricted", o.id(), podsecurity.EnforceLevelLabel, value)
		case level != podsecurity.LevelRestricted && o.GetAnnotations()[ReasonAnnotation] == "":
			e.problem(o.layer, "%s: is %s and says nowhere why: nobody could tell whether it has to be: set restricted, or say "+
				"why in the annotation %s", o.id(), level, ReasonAnnotation)
		}
		levels[o.GetName()] = level
	}
	return levels
}

// checkResources wants every container to say what it needs, and to have a limit where one that grows takes others
// down.
func (e *environment) checkResources(w workload) {
	for _, c := range slices.Concat(w.pods.Spec.InitContainers, w.pods.Spec.Containers) {
		for _, resource := range []core.ResourceName{core.ResourceCPU, core.ResourceMemory} {
			if _, ok := c.Resources.Requests[resource]; !ok {
				e.problem(w.layer, "%s: container %s requests no %s: the scheduler would count it as none and overload a node: "+
					"set resources.requests.%s", w.id(), c.Name, resource, resource)
			}
		}
		if _, ok := c.Resources.Limits[core.ResourceMemory]; !ok {
			e.problem(w.layer, "%s: container %s has no limit of memory: one that leaks would take the node's, and others "+
				"would be killed for it: set resources.limits.memory", w.id(), c.Name)
		}
	}
}

// checkService wants somebody behind a Service, on the ports that it names.
func (e *environment) checkService(o object, workloads []workload) {
	var service core.Service
	if apiruntime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &service) != nil {
		return // its schema has been refused
	}
	if len(service.Spec.Selector) == 0 {
		return // its endpoints are made by somebody else
	}
	selector := labels.SelectorFromSet(service.Spec.Selector)
	var behind []workload
	for _, w := range workloads {
		if w.GetNamespace() == o.GetNamespace() && selector.Matches(labels.Set(w.pods.Labels)) {
			behind = append(behind, w)
		}
	}
	if len(behind) == 0 {
		e.problem(o.layer, "%s: selects no pod of the tree (%s): whoever asks it gets no answer: correct its selector or "+
			"the pods' labels", o.id(), selector)
		return
	}
	for _, port := range service.Spec.Ports {
		if port.TargetPort.Type == intstr.String && !slices.ContainsFunc(behind, func(w workload) bool {
			return slices.ContainsFunc(w.pods.Spec.Containers, func(c core.Container) bool {
				return slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == port.TargetPort.StrVal })
			})
		}) {
			e.problem(o.layer, "%s: no pod behind it has a port named %s: nothing would answer there: correct targetPort or "+
				"the container's port", o.id(), port.TargetPort.StrVal)
		}
	}
}
