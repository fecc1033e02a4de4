package tailscale

import (
	"fmt"
	"net/http"
	"slices"
)

// test runs the policy's own tests and refuses it when one fails, in the words of
// the service.
func (set *ruleset) test(tests []aclTest, sshTests []sshTest) error {
	failures := []testFailure{}
	for i, test := range tests {
		problems, err := set.runTest(test)
		if err != nil {
			return err
		}
		if len(test.Accept)+len(test.Deny) == 0 {
			return badPolicy("tests[%d]: accept or deny is required", i)
		}
		if len(problems) > 0 {
			failures = append(failures, testFailure{User: test.Src, Errors: problems})
		}
	}
	for _, test := range sshTests {
		problems, err := set.runSSHTest(test)
		if err != nil {
			return err
		}
		if len(problems) > 0 {
			failures = append(failures, testFailure{User: test.Src, Errors: problems})
		}
	}
	if len(failures) > 0 {
		return &apiError{status: http.StatusBadRequest, message: "test(s) failed", data: failures}
	}
	return nil
}

func (set *ruleset) runTest(test aclTest) ([]string, error) {
	if test.SrcPostureAttrs != nil {
		return nil, notEmulated("srcPostureAttrs")
	}
	sources, err := set.principals(test.Src)
	if err != nil {
		return nil, err
	}
	proto := "tcp"
	if test.Proto != "" {
		proto = protocol(test.Proto)
	}
	var problems []string
	expect := func(addresses []string, want bool) error {
		for _, address := range addresses {
			host, ports, err := splitPorts(address)
			if err != nil || len(ports) != 1 || ports[0].first != ports[0].last {
				return badPolicy("tests: %q: want host:port with a single port", address)
			}
			targets, err := set.principals(host)
			if err != nil {
				return err
			}
			if set.differs(sources, targets, proto, ports[0].first, want) {
				problems = append(problems, fmt.Sprintf("address %q: want: %s, got: %s", address, verdict(want),
					verdict(!want)))
			}
		}
		return nil
	}
	if err := expect(test.Accept, true); err != nil {
		return nil, err
	}
	return problems, expect(test.Deny, false)
}

// differs is true when one pair of devices is treated otherwise than wanted.
func (set *ruleset) differs(sources, targets []principal, proto string, port int, want bool) bool {
	for _, src := range sources {
		for _, dst := range targets {
			if set.allows(src, dst, proto, port) != want {
				return true
			}
		}
	}
	return false
}

func verdict(accept bool) string {
	if accept {
		return "Accept"
	}
	return "Drop"
}

func (set *ruleset) runSSHTest(test sshTest) ([]string, error) {
	sources, err := set.principals(test.Src)
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, dst := range test.Dst {
		targets, err := set.principals(dst)
		if err != nil {
			return nil, err
		}
		for want, users := range map[string][]string{"accept": test.Accept, "check": test.Check, "deny": test.Deny} {
			for _, user := range users {
				for _, src := range sources {
					for _, to := range targets {
						if got := set.ssh(src, to, user); got != want {
							problems = append(problems, fmt.Sprintf("ssh %s@%s: want: %s, got: %s", user, dst, want,
								got))
						}
					}
				}
			}
		}
	}
	slices.Sort(problems)
	return problems, nil
}

// ssh returns what the first matching rule says: check rules come before accept
// rules, as at the service.
func (set *ruleset) ssh(src, dst principal, user string) string {
	for _, action := range []string{"check", "accept"} {
		for _, rule := range set.policy.SSH {
			if rule.Action == action &&
				slices.ContainsFunc(rule.Src, func(selector string) bool { return set.matches(selector, src, src) }) &&
				slices.ContainsFunc(rule.Dst, func(selector string) bool { return set.matches(selector, dst, src) }) &&
				(slices.Contains(rule.Users, user) || user != "root" &&
					slices.Contains(rule.Users, "autogroup:nonroot")) {
				return action
			}
		}
	}
	return "deny"
}
