package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// renovateFile is Renovate's configuration, which says how every version is found and what may move.
const renovateFile = "renovate.json5"

// manager is one of Renovate's custom managers: expressions that find versions in some files.
type manager struct {
	Description         string   `json:"description"`
	CustomType          string   `json:"customType"`
	ManagerFilePatterns []string `json:"managerFilePatterns"`
	MatchStrings        []string `json:"matchStrings"`
	Datasource          string   `json:"datasourceTemplate"`
	DepName             string   `json:"depNameTemplate"`
	ExtractVersion      string   `json:"extractVersionTemplate"`

	files, expressions []*regexp.Regexp
}

// rule is one of Renovate's rules, as far as it says what belongs together and what must not move.
type rule struct {
	Description string   `json:"description"`
	GroupName   string   `json:"groupName"`
	Names       []string `json:"matchPackageNames"`
	Files       []string `json:"matchFileNames"`
	UpdateTypes []string `json:"matchUpdateTypes"`
	Enabled     *bool    `json:"enabled"`
	Automerge   *bool    `json:"automerge"`
	Approval    bool     `json:"dependencyDashboardApproval"`
}

// configuration is what is in renovate.json5.
type configuration struct {
	EnabledManagers  []string  `json:"enabledManagers"`
	Automerge        *bool     `json:"automerge"`
	CustomManagers   []manager `json:"customManagers"`
	PackageRules     []rule    `json:"packageRules"`
	PostUpgradeTasks struct {
		Commands    []string `json:"commands"`
		FileFilters []string `json:"fileFilters"`
	} `json:"postUpgradeTasks"`
}

// version is a version that a manager finds in a file.
type version struct {
	file       string
	datasource string
	name       string
	version    string
	digest     string
	registry   string
	// at and digestAt are where the two stand in the file.
	at, digestAt [2]int
	// manager is the place of the manager in the configuration.
	manager int
}

// readConfiguration reads renovate.json5 of the checkout. Of JSON5 it takes comments and commas at the end.
func readConfiguration(root string) (*configuration, error) {
	text, err := os.ReadFile(filepath.Join(root, renovateFile)) //nolint:gosec // the checkout's own file
	if err != nil {
		return nil, err
	}
	standard, err := hujson.Standardize(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: no version was looked for", renovateFile, err)
	}
	var c configuration
	if err := json.Unmarshal(standard, &c); err != nil {
		return nil, fmt.Errorf("%s: %w: no version was looked for", renovateFile, err)
	}
	for i := range c.CustomManagers {
		if err := c.CustomManagers[i].compile(); err != nil {
			return nil, fmt.Errorf("%s: manager %d, %q: %w: no version was looked for",
				renovateFile, i, c.CustomManagers[i].Description, err)
		}
	}
	return &c, nil
}

// compile compiles the expressions. Renovate's are RE2's, as Go's are, and those of files stand between two slashes.
func (m *manager) compile() error {
	if m.CustomType != "regex" {
		return fmt.Errorf("customType %q: only regex is known here", m.CustomType)
	}
	for _, pattern := range m.ManagerFilePatterns {
		bare, ok := strings.CutPrefix(pattern, "/")
		bare, ends := strings.CutSuffix(bare, "/")
		if !ok || !ends {
			return fmt.Errorf("file pattern %q: not an expression between slashes", pattern)
		}
		expression, err := regexp.Compile(bare)
		if err != nil {
			return err
		}
		m.files = append(m.files, expression)
	}
	for _, pattern := range m.MatchStrings {
		expression, err := regexp.Compile(pattern)
		if err != nil {
			return err
		}
		if expression.SubexpIndex("currentValue") < 0 {
			return fmt.Errorf("expression %q finds no currentValue", pattern)
		}
		m.expressions = append(m.expressions, expression)
	}
	return nil
}

// find runs the managers over a file.
func (c *configuration) find(file, text string) []version {
	var found []version
	for i, m := range c.CustomManagers {
		if !slices.ContainsFunc(m.files, func(e *regexp.Regexp) bool { return e.MatchString(file) }) {
			continue
		}
		for _, e := range m.expressions {
			for _, match := range e.FindAllStringSubmatchIndex(text, -1) {
				groups, at := map[string]string{}, map[string][2]int{}
				for n, name := range e.SubexpNames() {
					if name != "" && match[2*n] >= 0 {
						groups[name] = text[match[2*n]:match[2*n+1]]
						at[name] = [2]int{match[2*n], match[2*n+1]}
					}
				}
				found = append(found, version{
					file: file, manager: i, version: groups["currentValue"], at: at["currentValue"],
					datasource: fill(m.Datasource, groups["datasource"], groups),
					name:       fill(m.DepName, groups["depName"], groups),
					digest:     groups["currentDigest"], digestAt: at["currentDigest"], registry: groups["registryUrl"],
				})
			}
		}
	}
	return found
}

// fill is a template with the groups of a match in it, or the group of its own name where there is no template.
func fill(template, group string, groups map[string]string) string {
	if template == "" {
		return group
	}
	for name, value := range groups {
		template = strings.ReplaceAll(template, "{{{"+name+"}}}", value)
	}
	return template
}

// versions runs the managers over the checkout.
func (c *configuration) versions(root string) ([]version, error) {
	var found []version
	err := eachFile(root, func(file, text string) { found = append(found, c.find(file, text)...) })
	return found, err
}

// eachFile calls take with every file of the checkout that is not a fixture, by its path below root. ignorePaths leaves
// the same out for Renovate.
func eachFile(root string, take func(file, text string)) error {
	return filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		file, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		file = filepath.ToSlash(file)
		if entry.IsDir() {
			if entry.Name() == "testdata" || file == ".git" || file == ".bin" {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path) //nolint:gosec // the checkout's own files
		if err != nil {
			return err
		}
		take(file, string(text))
		return nil
	})
}

// matches says whether a rule is about a version, whatever the update would be.
func (r *rule) matches(v version) bool {
	return (len(r.Names) == 0 || matchesOne(r.Names, v.name)) && (len(r.Files) == 0 || matchesOne(r.Files, v.file))
}

func matchesOne(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		expression := regexp.QuoteMeta(pattern)
		expression = strings.ReplaceAll(expression, `\*\*`, ".*")
		expression = strings.ReplaceAll(expression, `\*`, "[^/]*")
		return regexp.MustCompile("^" + expression + "$").MatchString(text)
	})
}

// fixed is why a version must not move, or "" when it may.
func (c *configuration) fixed(v version) string {
	why := ""
	for _, r := range c.PackageRules {
		if r.Enabled != nil && len(r.UpdateTypes) == 0 && r.matches(v) {
			why = ""
			if !*r.Enabled {
				why = r.Description
			}
		}
	}
	return why
}

// group is what a version moves together with.
func (c *configuration) group(v version) string {
	name := ""
	for _, r := range c.PackageRules {
		if r.GroupName != "" && r.matches(v) {
			name = r.GroupName
		}
	}
	return name
}
