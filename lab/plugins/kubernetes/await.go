package kubernetes

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	property "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// defaultTimeout is how long to wait for an object; the official plugin's.
const defaultTimeout = 10 * time.Minute

// timeoutOf is how long to wait for the object: customTimeouts of the program
// (seconds, 0 for none), else the annotation, else the default.
func timeoutOf(obj *unstructured.Unstructured, custom float64) (time.Duration, error) {
	if custom > 0 {
		return time.Duration(custom * float64(time.Second)), nil
	}
	text := obj.GetAnnotations()[timeoutAnnotation]
	if text == "" {
		return defaultTimeout, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds <= 0 {
		return 0, fmt.Errorf("annotation %s: %q is not a number of seconds", timeoutAnnotation, text)
	}
	return time.Duration(seconds) * time.Second, nil
}

// await waits until the applied object is ready and returns it as it is then.
// On failure it returns the last that was seen of it.
func (p *Provider) await(
	ctx context.Context, urn property.URN, obj *unstructured.Unstructured, timeout time.Duration,
) (*unstructured.Unstructured, error) {
	ready, err := readinessOf(obj)
	if err != nil || ready == nil {
		return obj, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("timed out after %s", timeout))
	defer cancel()
	live, said := obj, ""
	for {
		seen, err := p.cluster.get(ctx, obj, 0)
		switch {
		case ctx.Err() != nil:
			return live, p.explain(live, said, context.Cause(ctx))
		case apierrors.IsNotFound(err):
			return live, fmt.Errorf("%s %s was deleted while waiting for it", obj.GetKind(), identity(obj))
		case err != nil:
			return live, err
		}
		live = seen
		done, waiting, err := ready(live)
		if err != nil {
			return live, p.explain(live, waiting, err)
		}
		if done {
			return live, nil
		}
		if waiting != said {
			p.Engine.Status(ctx, urn, "%s", waiting)
			said = waiting
		}
		if err := sleep(ctx); err != nil {
			return live, p.explain(live, said, context.Cause(ctx))
		}
	}
}

// explain adds to the error of a wait what it waited for and what is wrong
// with the pods, if the object has some.
func (p *Provider) explain(live *unstructured.Unstructured, waiting string, err error) error {
	text := fmt.Sprintf("%s %s is not ready", live.GetKind(), identity(live))
	if waiting != "" {
		text += ": " + waiting
	}
	// The wait's own context is over; this one look must not hang either.
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	if troubles := p.cluster.podTroubles(ctx, live); len(troubles) > 0 {
		text += "; " + strings.Join(troubles, "; ")
	}
	return fmt.Errorf("%s: %w", text, err)
}

// podTroubles tells what keeps the pods that the object selects from running.
func (c *cluster) podTroubles(ctx context.Context, live *unstructured.Unstructured) []string {
	labels, _, _ := unstructured.NestedStringMap(live.Object, "spec", "selector", "matchLabels")
	if len(labels) == 0 || live.GroupVersionKind().Group != "apps" {
		return nil
	}
	api, _, err := c.resource(ctx, schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, live.GetNamespace(), 0)
	if err != nil {
		return nil
	}
	selector := metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: labels})
	pods, err := api.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil
	}
	var troubles []string
	for _, pod := range pods.Items {
		if status, why := conditionOf(&pod, "PodScheduled"); status == "False" {
			troubles = append(troubles, fmt.Sprintf("pod %s: %s", pod.GetName(), why))
		}
		statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
		for _, item := range statuses {
			container, _ := item.(map[string]any)
			reason, found, _ := unstructured.NestedString(container, "state", "waiting", "reason")
			if !found || reason == "ContainerCreating" {
				continue
			}
			message, _, _ := unstructured.NestedString(container, "state", "waiting", "message")
			troubles = append(troubles, strings.TrimSuffix(fmt.Sprintf("pod %s, container %v: %s: %s",
				pod.GetName(), container["name"], reason, message), ": "))
		}
	}
	return troubles
}

// awaitGone waits until the object with that UID no longer exists: its
// finalizers have run.
func (p *Provider) awaitGone(
	ctx context.Context, urn property.URN, obj *unstructured.Unstructured, timeout time.Duration,
) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("timed out after %s", timeout))
	defer cancel()
	said := ""
	for {
		live, err := p.cluster.get(ctx, obj, 0)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s %s is still there: %s: %w", obj.GetKind(), identity(obj), said, context.Cause(ctx))
		case err != nil:
			return err
		case live.GetUID() != obj.GetUID():
			return nil // somebody has made it anew
		}
		if waiting := terminating(live); waiting != said {
			p.Engine.Status(ctx, urn, "%s", waiting)
			said = waiting
		}
		if err := sleep(ctx); err != nil {
			return fmt.Errorf("%s %s is still there: %s: %w", obj.GetKind(), identity(obj), said, context.Cause(ctx))
		}
	}
}

// terminating tells what a deleted object waits for.
func terminating(live *unstructured.Unstructured) string {
	var waiting []string
	if finalizers := live.GetFinalizers(); len(finalizers) > 0 {
		waiting = append(waiting, "waiting for finalizers "+strings.Join(finalizers, ", "))
	}
	for _, name := range []string{
		"NamespaceContentRemaining", "NamespaceFinalizersRemaining",
		"NamespaceDeletionContentFailure",
	} {
		if status, why := conditionOf(live, name); status == "True" {
			waiting = append(waiting, why)
		}
	}
	if len(waiting) == 0 {
		return "being deleted"
	}
	return strings.Join(waiting, "; ")
}

// gone says whether the error is the API server's "not found".
func gone(err error) bool { return apierrors.IsNotFound(err) }
