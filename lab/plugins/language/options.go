package language

import (
	"fmt"
	"path/filepath"
	"slices"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// options are the runtime options of Pulumi.yaml.
type options struct {
	// Binary is a program that is built already.
	Binary string
	// BuildTarget is where the program is built to, so that an unchanged one is
	// linked only once.
	BuildTarget string
}

func parseOptions(info *pulumirpc.ProgramInfo) (options, error) {
	var opts options
	known := map[string]*string{"binary": &opts.Binary, "buildTarget": &opts.BuildTarget}
	given := info.GetOptions().AsMap()
	names := make([]string, 0, len(given))
	for name := range given {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		into, ok := known[name]
		if !ok {
			return opts, fmt.Errorf("the lab's double of pulumi-language-go does not support the runtime option %q", name)
		}
		value, ok := given[name].(string)
		if !ok {
			return opts, fmt.Errorf("runtime option %s must be a string, got %T", name, given[name])
		}
		*into = value
	}
	if opts.Binary != "" && opts.BuildTarget != "" {
		return opts, fmt.Errorf("runtime options binary and buildTarget exclude each other")
	}
	return opts, nil
}

// within makes a path absolute, relative to the program's folder.
func within(program, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(program, path)
	}
	return filepath.Abs(path)
}
