// Package emulator is what the lab's emulated cloud APIs have in common: a
// crash-safe store, a router that refuses what it does not know, fault hooks and
// the inspection endpoints under /lab.
//
// An emulator that accepts what the real service refuses hides bugs, so every
// request without a route is answered with 501 and logged.
package emulator
