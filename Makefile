# What there is to do with this repository. "make" lists it.

GO ?= go
GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.8.0

# The race detector needs a C compiler.
RACE := $(if $(shell command -v $$($(GO) env CC)),-race)

# The real Vault that the tests run against, kept outside the tree.
export MIDAS_TEST_VAULT ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/midas-sidecar/vaultserver

help: ## List what there is to do
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

# What the binary says of itself. A tree without git has no version.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

# Parts of Caddy's that the sidecar does not use: certificate databases.
TAGS = nobadger,nomysql,nopgx

# Without C, whose compilers differ, and without the paths of this machine: the same
# commit and Go make the same bytes everywhere. Without symbol tables, which only a
# debugger needs.
build: ## Build ./midas-sidecar
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '-s -w -X main.version=$(VERSION)' -o midas-sidecar ./cmd/midas-sidecar

# The second cache is kept: nothing in it knows where the first build is.
reproducible: ## Build what is here in two other places, from two caches, and compare
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && mkdir "$$dir/elsewhere" && \
	cp -R . "$$dir/one" && cp -R . "$$dir/elsewhere/another" && \
	$(MAKE) -s -C "$$dir/one" build && \
	GOCACHE="$(dir $(MIDAS_TEST_VAULT))reproducible" $(MAKE) -s -C "$$dir/elsewhere/another" build && \
	cmp "$$dir/one/midas-sidecar" "$$dir/elsewhere/another/midas-sidecar" && \
	echo "Both builds are the same."

sbom: build ## List the modules in ./midas-sidecar, as CycloneDX, in sbom.json
	$(GO) version -m midas-sidecar | awk -f .ci/sbom.awk > sbom.json

# The integration tests take longest, so they begin first; most of that they wait.
test: vault ## Run all tests, against a real Vault
	@test -n "$(RACE)" || echo "No C compiler: the tests run without the race detector."
	$(GO) test $(RACE) -timeout 15m -parallel 4 ./integration ./...
	$(GO) test -run Allocates ./signer
	$(GO) test -run 'NoAnswerLies|FourRules|Orders' -v ./internal/payment

vault: ## Compile the Vault that the tests use
	@test -e "$(MIDAS_TEST_VAULT)" || echo "Compiling HashiCorp's Vault to test against: some minutes, once."
	$(GO) build -C integration/vaultserver -o "$(MIDAS_TEST_VAULT)" .

bench: ## Measure what the sidecar costs next to Caddy and nginx: bench/RESULTS.md
	$(GO) run ./bench $(BENCHFLAGS)

microbench: ## Run the Go benchmarks
	$(GO) test -run '^$$' -bench . ./signer ./internal/wechat ./caddymodule ./internal/credentials ./internal/ledger ./internal/payment ./internal/http1

histories: ## Judge N (default a million) random histories of payments by the books
	$(GO) test -run 'NoAnswerLies|FourRules' -v -timeout 6h ./internal/payment -args -histories $(or $(N),1000000)

fuzz: ## Fuzz each target for FUZZTIME (default 1m)
	for target in $$(grep -rho --include=*_test.go '^func Fuzz[A-Za-z]*' . | cut -c6-); do \
		$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(or $(FUZZTIME),1m) -fuzzminimizetime 10x ./$$(dirname $$(grep -rl --include=*_test.go "func $$target(" . | head -n 1)) || exit 1; \
	done

lint: ## Check style, common mistakes, and known vulnerabilities
	$(GO) vet ./...
	$(GO) run $(GOLANGCI_LINT) run ./...
	@$(MAKE) vulncheck

# It asks vuln.go.dev, or the copy that GOVULNDB is the URL of.
vulncheck: ## Look for known vulnerabilities in what the product calls
	$(GO) run $(GOVULNCHECK) $(if $(GOVULNDB),-db "$(GOVULNDB)") ./cmd/...

.PHONY: help build reproducible sbom test vault bench microbench histories fuzz lint vulncheck
