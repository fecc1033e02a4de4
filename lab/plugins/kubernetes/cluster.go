package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// dialTimeout and requestTimeout keep an unreachable cluster from hanging
	// anything.
	dialTimeout    = 5 * time.Second
	requestTimeout = 30 * time.Second
	// kindTimeout is how long to wait for a kind that the API server does not
	// know (yet): its definition may just have been made.
	kindTimeout = 15 * time.Second
	// transientTimeout is how long to try a request again that the API server
	// could not handle at the moment.
	transientTimeout = 20 * time.Second
)

// pause between looks at the cluster.
const pause = 300 * time.Millisecond

// cluster is a connection to one cluster, made at its first use.
type cluster struct {
	kubeconfig string
	context    string
	name       string
	namespace  string

	mu     sync.Mutex
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

// errUnreachable is for a cluster that gives no answer at all.
var errUnreachable = errors.New("configured Kubernetes cluster is unreachable")

// connect prepares the clients; it makes no request.
func (c *cluster) connect() (dynamic.Interface, *restmapper.DeferredDiscoveryRESTMapper, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		return c.client, c.mapper, nil
	}
	config, namespace, err := c.config()
	if err != nil {
		return nil, nil, err
	}
	if c.namespace == "" {
		c.namespace = namespace
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	finder, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	c.client, c.mapper = client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(finder))
	return c.client, c.mapper, nil
}

// config reads the kubeconfig: its content or a path.
func (c *cluster) config() (*rest.Config, string, error) {
	content := c.kubeconfig
	if content == "" {
		return nil, "", errors.New("the provider has no kubeconfig: the lab's double of the kubernetes plugin " +
			"does not use the user's own; set kubeconfig")
	}
	if !strings.Contains(content, "\n") && !strings.HasPrefix(strings.TrimSpace(content), "{") {
		file, err := os.ReadFile(content) //nolint:gosec // the user's own file
		if err != nil {
			return nil, "", fmt.Errorf("kubeconfig is neither a kubeconfig nor a path to one: %w", err)
		}
		content = string(file)
	}
	parsed, err := clientcmd.Load([]byte(content))
	if err != nil {
		return nil, "", fmt.Errorf("parse the kubeconfig: %w", err)
	}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: c.context}
	overrides.Context.Cluster = c.name
	loader := clientcmd.NewDefaultClientConfig(*parsed, overrides)
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("use the kubeconfig: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("use the kubeconfig: %w", err)
	}
	config.Timeout = requestTimeout
	config.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	config.QPS, config.Burst = 120, 200
	config.UserAgent = "pulumi-kubernetes"
	return config, namespace, nil
}

// resource finds how the API serves the kind. A kind it does not know is
// looked up again for a while: its definition may just have been made.
func (c *cluster) resource(
	ctx context.Context, kind schema.GroupVersionKind, namespace string, patience time.Duration,
) (dynamic.ResourceInterface, *meta.RESTMapping, error) {
	client, mapper, err := c.connect()
	if err != nil {
		return nil, nil, err
	}
	var mapping *meta.RESTMapping
	deadline := time.Now().Add(patience)
	for {
		c.mu.Lock()
		mapping, err = mapper.RESTMapping(kind.GroupKind(), kind.Version)
		c.mu.Unlock()
		if err == nil {
			break
		}
		if !meta.IsNoMatchError(err) {
			return nil, nil, reach(err)
		}
		if time.Now().After(deadline) {
			return nil, nil, fmt.Errorf("the API server does not know %s: %w", kind, err)
		}
		if err := sleep(ctx); err != nil {
			return nil, nil, err
		}
		c.mu.Lock()
		mapper.Reset()
		c.mu.Unlock()
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return client.Resource(mapping.Resource), mapping, nil
	}
	if namespace == "" {
		namespace = c.namespace
	}
	return client.Resource(mapping.Resource).Namespace(namespace), mapping, nil
}

// get reads a live object.
func (c *cluster) get(
	ctx context.Context, obj *unstructured.Unstructured, patience time.Duration,
) (*unstructured.Unstructured, error) {
	api, _, err := c.resource(ctx, obj.GroupVersionKind(), obj.GetNamespace(), patience)
	if err != nil {
		return nil, err
	}
	return retry(ctx, func() (*unstructured.Unstructured, error) {
		return api.Get(ctx, obj.GetName(), metav1.GetOptions{})
	})
}

// apply applies an object server-side and returns the live one.
func (c *cluster) apply(
	ctx context.Context, obj *unstructured.Unstructured, manager string, force bool,
) (*unstructured.Unstructured, error) {
	api, mapping, err := c.resource(ctx, obj.GroupVersionKind(), obj.GetNamespace(), kindTimeout)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot && obj.GetNamespace() != "" {
		return nil, fmt.Errorf("%s is not in a namespace, but metadata.namespace is %q", obj.GetKind(), obj.GetNamespace())
	}
	payload, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	return retry(ctx, func() (*unstructured.Unstructured, error) {
		return api.Patch(ctx, obj.GetName(), types.ApplyPatchType, payload,
			metav1.PatchOptions{FieldManager: manager, Force: &force})
	})
}

// retry makes a request again while the API server says that it cannot handle
// it right now: it is starting, busy, or one of its webhooks is.
func retry[T any](ctx context.Context, request func() (T, error)) (T, error) {
	deadline := time.Now().Add(transientTimeout)
	for {
		result, err := request()
		if err == nil || !transient(err) || time.Now().After(deadline) {
			return result, reach(err)
		}
		if err := sleep(ctx); err != nil {
			return result, err
		}
	}
}

func transient(err error) bool {
	return apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsTimeout(err) || apierrors.IsInternalError(err)
}

// reach marks errors that are no answer of the API server.
func reach(err error) error {
	var answer apierrors.APIStatus
	if err == nil || errors.As(err, &answer) || meta.IsNoMatchError(err) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", errUnreachable, err)
}

func sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("cancelled: %w", context.Cause(ctx))
	case <-time.After(pause):
		return nil
	}
}
