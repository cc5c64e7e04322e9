# Isthmus: `make help` lists everything.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help generate fmt vet lint tidy verify build controlplane test test-unit bench-hosts demo run clean

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
CONTROLLER_GEN := go tool controller-gen
LINT := go tool -modfile=hack/tools/lint/go.mod golangci-lint
TOOL_MODULES := hack/tools/kubernetes hack/tools/etcd hack/tools/containerd hack/tools/lint
TEST_TIMEOUT ?= 60m

help: ## List what make can do.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

generate: ## Write generated code, CRDs and the operator's role.
	$(CONTROLLER_GEN) object paths=./api/...
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:artifacts:config=config/crd
	$(CONTROLLER_GEN) rbac:roleName=isthmus-operator paths=./controllers/... output:rbac:artifacts:config=config/rbac

fmt: ## Format the code.
	gofmt -w $$(git ls-files '*.go')

vet: ## Vet the code.
	go vet ./...

lint: ## Lint, including the dependency directions.
	$(LINT) run ./...

tidy: ## Tidy all modules.
	go mod tidy
	@for module in $(TOOL_MODULES); do (cd $$module && go mod tidy) || exit 1; done

verify: ## Generate, format, vet, lint and tidy; fail on any difference.
	@hack/verify.sh

build: ## Build the operator into bin/.
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/isthmus .

controlplane: ## Build etcd, kube-apiserver and kubectl into the cache; print their directory.
	@go run ./test/testbed/cmd/assets

test: ## Run everything that this machine can run; installs and builds what that needs.
	@hack/test.sh

test-unit: ## Run the tests that need no control plane and no machines.
	go test ./api/... ./internal/...

bench-hosts: ## Measure Isthmus beside Ansible and Fabric; BENCH_ARGS="-hosts 20 -runs 5" narrows it, BENCH=quick tries it out.
	@go build -o bin/bench ./test/bench
	@bin/bench $(BENCH_ARGS)

demo: ## Show the main job on a control plane, a node, a Linux host and a Windows host made here.
	@hack/demo.sh

run: build ## Run the operator against the current kubeconfig, as its user.
	bin/isthmus --leader-elect=false

clean: ## Remove what was built in the checkout (not the cache).
	rm -rf bin
