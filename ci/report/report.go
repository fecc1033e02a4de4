// Package report is what a preview of a pull request found, and how it is told: as a comment of the git host, as text
// for a terminal, and as an exit status. Nothing in a report is secret: what is, was left out by whoever made it.
package report

// Report is what a change does to every environment that it touches.
type Report struct {
	// Base and Head are the commits compared, in full: what the change would be merged into, and the change.
	Base string `json:"base"`
	Head string `json:"head"`
	// Proposed is the pull request's own commit, which Head is made of. Empty for the files of a checkout.
	Proposed string `json:"proposed,omitempty"`
	// Untouched says, in a sentence, why nothing was previewed: the change is of documents alone, say. Else empty.
	Untouched string  `json:"untouched,omitempty"`
	Stacks    []Stack `json:"stacks,omitempty"`
	Trees     []Tree  `json:"trees,omitempty"`
}

// Stack is the preview of one stack.
type Stack struct {
	Name string `json:"name"`
	// State says what the preview was compared with: "the real state", or "the state published at 1a2b3c4".
	State string `json:"state"`
	// Behind says that the state is older than the base, so that changes of others show, too. Else empty.
	Behind string `json:"behind,omitempty"`
	// Site is what a person can check of the site: hosts, zone, git address, of several lines.
	Site string `json:"site,omitempty"`
	// Changes are the resources that do not stay the same, in the engine's order. Same is the number of those that do.
	Changes []Change `json:"changes,omitempty"`
	Same    int      `json:"same"`
	// NotPreviewed says, in a sentence, why nothing is known of the stack, which is no failure. Else empty.
	NotPreviewed string `json:"notPreviewed,omitempty"`
	// Error is why there is no preview: of several lines, without secrets. The other fields may be empty then.
	Error string `json:"error,omitempty"`
}

// The operations of a change, in the words of the engine.
const (
	Create  = "create"
	Update  = "update"
	Replace = "replace"
	Delete  = "delete"
	// Others are named by what the engine calls them: import, read, refresh.
)

// Change is what happens to one resource.
type Change struct {
	Op string `json:"op"`
	// Type is the resource's type, "cloudflare:index/record:Record"; Name its name in the program; URN says it all.
	Type string `json:"type"`
	Name string `json:"name"`
	URN  string `json:"urn"`
	// Danger says, in a few words, what would be lost: "holds the tunnel's identity". Else empty.
	Danger     string     `json:"danger,omitempty"`
	Properties []Property `json:"properties,omitempty"`
}

// Property is one property of a resource that changes.
type Property struct {
	// Path is in the engine's words: "config.ingress[0].hostname".
	Path string `json:"path"`
	// Before and After are the values as JSON, whole; empty where there is none. Both are empty where Secret.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Secret says that the property, or a part of it, is secret: that it changes is all that is told.
	Secret bool `json:"secret,omitempty"`
	// Replaces says that this property is why the resource is replaced.
	Replaces bool `json:"replaces,omitempty"`
}

// Tree is the difference of what Flux applies in one environment.
type Tree struct {
	Environment string `json:"environment"`
	// Note says what the difference cannot, in a sentence: that the environment is new, say. Else empty.
	Note    string   `json:"note,omitempty"`
	Objects []Object `json:"objects,omitempty"`
	// Error is why the tree cannot be compared, of several lines.
	Error string `json:"error,omitempty"`
}

// Object is an object of Kubernetes that changes.
type Object struct {
	Op string `json:"op"` // Create, Update or Delete
	// Layer is the Flux Kustomization that applies it, ID the object: "HelmRelease metallb-system/metallb".
	Layer  string `json:"layer"`
	ID     string `json:"id"`
	Danger string `json:"danger,omitempty"`
	// Note says what the difference cannot: that the object comes from another layer, say. Else empty.
	Note string `json:"note,omitempty"`
	// Diff is a unified difference of the object as YAML, without file names; for a sealed value it says no more than
	// that it changes.
	Diff string `json:"diff,omitempty"`
}
