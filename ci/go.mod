module github.com/tinyrack-net/infrastructure/ci

go 1.26.0

require github.com/tinyrack-net/infrastructure/gitops v0.0.0

replace github.com/tinyrack-net/infrastructure/gitops => ../gitops
