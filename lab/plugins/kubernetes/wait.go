package kubernetes

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"
)

// readiness says whether a live object is ready, and if not what it waits
// for. An error is final: the object will not become ready by waiting.
type readiness func(live *unstructured.Unstructured) (ready bool, waiting string, err error)

// readinessOf returns the readiness that the object asks for by annotation,
// or that of its kind; nil when there is nothing to wait for.
func readinessOf(obj *unstructured.Unstructured) (readiness, error) {
	annotations := obj.GetAnnotations()
	if strings.EqualFold(annotations[skipAwaitAnnotation], "true") {
		return nil, nil
	}
	if expression := annotations[waitForAnnotation]; expression != "" {
		return parseWaitFor(expression)
	}
	kind := obj.GroupVersionKind()
	switch kind.Group + "/" + kind.Kind {
	case "apps/Deployment":
		return deploymentReady, nil
	case "apps/StatefulSet":
		return statefulSetReady, nil
	case "apps/DaemonSet":
		return daemonSetReady, nil
	case "batch/Job":
		return jobReady, nil
	case "/Pod":
		return allConditions(condition{"Ready", "True"}), nil
	case "/Namespace":
		return namespaceReady, nil
	case "apiextensions.k8s.io/CustomResourceDefinition":
		return allConditions(condition{"NamesAccepted", "True"}, condition{"Established", "True"}), nil
	}
	return nil, nil
}

// parseWaitFor reads the waitFor annotation: condition=Type, condition=Type=Status,
// jsonpath={.path} or jsonpath={.path}=value, or a JSON list of those, which
// must all hold.
func parseWaitFor(expression string) (readiness, error) {
	expressions := []string{expression}
	if strings.HasPrefix(strings.TrimSpace(expression), "[") {
		if err := json.Unmarshal([]byte(expression), &expressions); err != nil {
			return nil, fmt.Errorf("%s: not a JSON list of strings: %w", waitForAnnotation, err)
		}
	}
	var all []readiness
	for _, e := range expressions {
		what, rest, _ := strings.Cut(e, "=")
		switch {
		case what == "condition" && rest != "":
			name, status, given := strings.Cut(rest, "=")
			if !given {
				status = "True"
			}
			all = append(all, allConditions(condition{name, status}))
		case what == "jsonpath" && rest != "":
			r, err := parseJSONPath(rest)
			if err != nil {
				return nil, err
			}
			all = append(all, r)
		default:
			return nil, fmt.Errorf("%s: %q is neither condition=… nor jsonpath=…", waitForAnnotation, e)
		}
	}
	return func(live *unstructured.Unstructured) (bool, string, error) {
		for _, r := range all {
			if ready, waiting, err := r(live); !ready || err != nil {
				return false, waiting, err
			}
		}
		return true, "", nil
	}, nil
}

func parseJSONPath(text string) (readiness, error) {
	path, value, compare := text, "", false
	if end := strings.LastIndex(text, "}"); end >= 0 {
		path = text[:end+1]
		if value, compare = strings.CutPrefix(text[end+1:], "="); !compare && text[end+1:] != "" {
			return nil, fmt.Errorf("%s: jsonpath=%q: expected {.path} or {.path}=value", waitForAnnotation, text)
		}
	}
	parsed := jsonpath.New("waitFor").AllowMissingKeys(true)
	if err := parsed.Parse(path); err != nil {
		return nil, fmt.Errorf("%s: jsonpath=%q: %w", waitForAnnotation, text, err)
	}
	return func(live *unstructured.Unstructured) (bool, string, error) {
		waiting := "waiting for jsonpath=" + text
		found, err := parsed.FindResults(live.Object)
		if err != nil {
			return false, waiting, nil //nolint:nilerr // the path is not there yet
		}
		if len(found) == 0 || len(found[0]) == 0 {
			return false, waiting, nil
		}
		return !compare || printed(found[0][0]) == value, waiting, nil
	}, nil
}

func printed(v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	return fmt.Sprint(v.Interface())
}

type condition struct{ name, status string }

// allConditions is ready when all conditions have their status.
func allConditions(wanted ...condition) readiness {
	return func(live *unstructured.Unstructured) (bool, string, error) {
		for _, c := range wanted {
			status, why := conditionOf(live, c.name)
			if !strings.EqualFold(status, c.status) {
				return false, strings.TrimSuffix(fmt.Sprintf("waiting for condition %s=%s: %s", c.name, c.status, why), ": "), nil
			}
		}
		return true, "", nil
	}
}

// conditionOf returns a condition's status and its reason and message.
func conditionOf(live *unstructured.Unstructured, name string) (status, why string) {
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	for _, item := range conditions {
		c, ok := item.(map[string]any)
		if !ok || c["type"] != name {
			continue
		}
		status, _ = c["status"].(string)
		reason, _ := c["reason"].(string)
		message, _ := c["message"].(string)
		why = strings.Trim(reason+": "+message, ": ")
		if why == "" {
			why = name + " is " + status
		}
		return status, why
	}
	return "", ""
}

func number(live *unstructured.Unstructured, fallback int64, path ...string) int64 {
	n, found, err := unstructured.NestedInt64(live.Object, path...)
	if !found || err != nil {
		return fallback
	}
	return n
}

// observed says whether the controller has seen the latest wish.
func observed(live *unstructured.Unstructured) bool {
	return number(live, 0, "status", "observedGeneration") >= live.GetGeneration()
}

func deploymentReady(live *unstructured.Unstructured) (bool, string, error) {
	wanted := number(live, 1, "spec", "replicas")
	updated := number(live, 0, "status", "updatedReplicas")
	total := number(live, 0, "status", "replicas")
	available := number(live, 0, "status", "availableReplicas")
	if !observed(live) {
		return false, "waiting for the deployment controller", nil
	}
	if status, why := conditionOf(live, "Progressing"); status == "False" {
		return false, "", fmt.Errorf("the rollout does not progress: %s", why)
	}
	waiting := fmt.Sprintf("%d of %d replicas updated, %d available, %d old ones "+
		"left", updated, wanted, available, max(total-updated, 0))
	return updated == wanted && available == wanted && total == wanted, waiting, nil
}

func statefulSetReady(live *unstructured.Unstructured) (bool, string, error) {
	wanted := number(live, 1, "spec", "replicas")
	updated := number(live, 0, "status", "updatedReplicas")
	ready := number(live, 0, "status", "readyReplicas")
	if !observed(live) {
		return false, "waiting for the stateful set controller", nil
	}
	return updated == wanted && ready == wanted, fmt.Sprintf("%d of %d replicas updated, %d "+
		"ready", updated, wanted, ready), nil
}

func daemonSetReady(live *unstructured.Unstructured) (bool, string, error) {
	wanted := number(live, 0, "status", "desiredNumberScheduled")
	updated := number(live, 0, "status", "updatedNumberScheduled")
	available := number(live, 0, "status", "numberAvailable")
	if !observed(live) {
		return false, "waiting for the daemon set controller", nil
	}
	return updated == wanted && available == wanted, fmt.Sprintf("%d of %d pods updated, %d "+
		"available", updated, wanted, available), nil
}

func jobReady(live *unstructured.Unstructured) (bool, string, error) {
	if status, why := conditionOf(live, "Failed"); status == "True" {
		return false, "", fmt.Errorf("the job failed: %s", why)
	}
	status, _ := conditionOf(live, "Complete")
	return status == "True", "waiting for the job to complete", nil
}

func namespaceReady(live *unstructured.Unstructured) (bool, string, error) {
	phase, _, _ := unstructured.NestedString(live.Object, "status", "phase")
	return phase == "Active", "the namespace is " + phase, nil
}
