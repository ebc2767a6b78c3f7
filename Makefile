# What there is to do with this repository. "make" lists it.

GO ?= go
GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The race detector needs a C compiler.
RACE := $(if $(shell command -v $$($(GO) env CC)),-race)

# The real Vault that the tests run against, kept outside the tree.
export MIDAS_TEST_VAULT ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/midas-sidecar/vaultserver

help: ## List what there is to do
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

build: ## Build ./midas-sidecar
	$(GO) build -trimpath -o midas-sidecar ./cmd/midas-sidecar

test: vault ## Run all tests, against a real Vault
	@test -n "$(RACE)" || echo "No C compiler: the tests run without the race detector."
	$(GO) test $(RACE) -timeout 15m ./...
	$(GO) test -run Allocates ./signer
	$(GO) test -run 'NoAnswerLies|Orders' -v ./payment

vault: ## Compile the Vault that the tests use
	@test -e "$(MIDAS_TEST_VAULT)" || echo "Compiling HashiCorp's Vault to test against: some minutes, once."
	$(GO) build -C integration/vaultserver -o "$(MIDAS_TEST_VAULT)" .

bench: ## Run the benchmarks
	$(GO) test -run '^$$' -bench . ./signer ./wechat ./caddymodule

histories: ## Judge N (default a million) random histories of payments by the books
	$(GO) test -run NoAnswerLies -v -timeout 6h ./payment -args -histories $(or $(N),1000000)

fuzz: ## Fuzz each target for FUZZTIME (default 1m)
	for target in $$(grep -rho --include=*_test.go '^func Fuzz[A-Za-z]*' . | cut -c6-); do \
		$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(or $(FUZZTIME),1m) ./$$(dirname $$(grep -rl --include=*_test.go "func $$target(" . | head -n 1)) || exit 1; \
	done

lint: ## Check style and common mistakes
	$(GO) vet ./...
	$(GO) run $(GOLANGCI_LINT) run ./...

.PHONY: help build test vault bench histories fuzz lint
