# make demo   builds everything and runs the whole of Dewar on the example shop
# make test   builds everything and passes the tests
# make help   the rest

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/dewar-security/dewar/internal/cli.version=$(VERSION)
VENV := .venv

.PHONY: help build venv demo test race lint docs docs-check bench fuzz clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## bin/dewar, one static binary
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/dewar ./cmd/dewar

venv: ## the virtual environments of the example apps and of the differential test
	@scripts/venv.sh
	@scripts/backends.sh
	@scripts/oidc-provider.sh

demo: build venv ## audit, guard, probe and judge the example shop
	@scripts/demo.sh

test: venv ## all tests, on real Flask and gunicorn
	DEWAR_REQUIRE_REAL=1 go test -timeout 40m ./...
	cd examples/shop && ../../$(VENV)/bin/python -m pytest -q
	cd examples/leaky && ../../$(VENV)/bin/python -m pytest -q

race: venv ## all tests under the race detector
	DEWAR_REQUIRE_REAL=1 go test -timeout 40m -race $$(go list ./... | grep -v /test/) # test/ runs the built binary

lint: ## gofmt, go vet, staticcheck, govulncheck
	@scripts/lint.sh

docs: ## docs/, man pages and completions from the code
	go run ./cmd/dewar-docs docs

docs-check: ## fails when docs/ is not what the code says
	go run ./cmd/dewar-docs -check docs

bench: ## benchmarks of the hot paths
	go test -run '^$$' -bench . -benchmem ./internal/...

fuzz: ## every fuzz test for ten seconds
	@scripts/fuzz.sh

clean: ## what make made
	rm -rf bin $(VENV) dist
