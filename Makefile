# Drydock. Type `make` for what can be made.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO := scripts/go
# The Go tool refuses to build where git refuses to answer, as in another user's clone.
VCS := $(if $(shell git rev-parse HEAD 2>/dev/null),true,false)
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(VCS) -ldflags '-s -w'
ifeq ($(VCS),false)
export GOFLAGS += -buildvcs=false
endif
TEST := $(GO) test -count=1 -timeout=20m
# Packages with tests that need root.
ROOTED = $$(grep -rl '^//go:build root' --include='*_test.go' . | xargs -n 1 dirname | sort -u)

help: ## Show this
	@echo 'Drydock moves running pods between Linux hosts. Every target installs what it needs, which asks for root.'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-16s %s\n' $$name "$$text"; done

.PHONY: help build deb images translators generate lint test test-unit test-sim test-root test-e2e test-life test-vm
.PHONY: test-faults test-faults-ci matrix demo demo-patch demo-real demo-shim soak bench-migrate bench-precopy bench-overhead bench-plan bench-fleet bench-shim clean

bootstrap-%:
	@scripts/bootstrap $*

build: bootstrap-go ## Build the program, static: build/drydock
	$(BUILD) -o build/drydock ./cmd/drydock

deb: build ## Build Debian packages for amd64 and arm64: build/drydock_VERSION_ARCH.deb
	$(foreach arch,amd64 arm64,GOARCH=$(arch) $(BUILD) -o build/bin/drydock-$(arch) ./cmd/drydock && \
	$(GO) run ./packaging -binary build/bin/drydock-$(arch) -native build/drydock -arch $(arch) &&) true

images: bootstrap-go bootstrap-lab ## Make images of Redis, PostgreSQL, nginx and a self-checking program: build/images
	$(GO) run ./lab/images/main

translators: bootstrap-go ## Build the translators that are WebAssembly modules: configs/services/*.wasm
	GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -buildmode=c-shared -o configs/services/people.wasm ./shim/module/people/wasm

generate: bootstrap-go ## Generate the code of the API from api/
	$(GO) tool buf generate

lint: bootstrap-go ## Look for faults in the code: go vet, staticcheck, buf, gofmt, generated code
	@unformatted=$$($(GO) run cmd/gofmt -l .); \
		[ -z "$$unformatted" ] || { echo "run gofmt -w on: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags=root,faults ./...
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags=root,faults ./...
	$(GO) tool buf lint
	@scripts/generated

test: test-unit test-sim test-root test-faults-ci test-e2e ## Run all tests: unit, simulation, root, a choice of faults, the whole from end to end

test-unit: bootstrap-go bootstrap-race ## Run the tests that need no root, with the race detector
	$(TEST) -race $$($(GO) list ./... | grep -v /migrate/owner$$)
	$(TEST) -race ./migrate/owner -seeds 500

test-sim: bootstrap-go ## Simulate the protocol of migrations 10,000 times, with faults
	$(TEST) ./migrate/owner -seeds 10000

test-root: bootstrap-go bootstrap-race bootstrap-lab bootstrap-shim ## Run the tests that need root, labs among them
	$(TEST) -race -tags root -p 1 $(ROOTED)

test-e2e: demo demo-patch ## Run the whole from end to end: the demos

test-life: bootstrap-go bootstrap-lab ## Run a lab through what an operator does, and does wrong
	$(TEST) -v -tags root ./lab/e2e

test-faults: bootstrap-go bootstrap-lab ## Break migrations and rollouts at every point, in every mode (hours)
	$(GO) test -count=1 -timeout=12h -v -tags faults ./lab/faults/...

test-faults-ci: bootstrap-go bootstrap-lab ## Break migrations and rollouts once at every step, and every link once
	$(GO) test -count=1 -timeout=50m -v -tags faults ./lab/faults/... -set ci

test-vm: build bootstrap-lab ## Try virtual machines as hosts: moves, an upgrade, a real reboot, a power cut
	$(GO) run ./packaging
	$(TEST) -v -tags vm ./lab/real

matrix: build bootstrap-race bootstrap-lab ## Move programs between kernels 6.1, 6.12 and 7.2 in every direction: build/matrix.json, docs/kernels.md
	$(GO) run ./packaging
	$(GO) build -o build/bin/matrix ./lab/matrix
	build/bin/matrix

demo: build bootstrap-lab ## Move Redis, PostgreSQL, nginx and a busy pod around three hosts: build/demo.json
	$(GO) build -o build/bin/demo ./lab/demo/main
	build/bin/demo

demo-patch: build bootstrap-lab ## Patch three hosts with six pods in use on them: build/demo-patch.json
	$(GO) build -o build/bin/demo-patch ./lab/demo/patch
	build/bin/demo-patch

demo-real: build bootstrap-lab ## Patch two virtual machines to a newer kernel with pods in use on them: build/demo-real.json
	$(GO) run ./packaging
	$(GO) build -o build/bin/demo-real ./lab/demo/real
	build/bin/demo-real

demo-shim: build bootstrap-lab ## Upgrade a service with clients of three versions while hosts are drained: build/demo-shim.json
	$(GO) run ./lab/demo/shim

soak: build bootstrap-lab ## Move one Redis 100 times under writes, and look for leaks: build/soak.json
	$(GO) build -o build/bin/soak ./lab/soak/main
	build/bin/soak

bench-migrate: build bootstrap-lab ## Compare moves with podman's and runc's: build/bench-migrate.json
	$(GO) build -o build/bin/bench-migrate ./lab/bench/migrate
	build/bin/bench-migrate

bench-precopy: build bootstrap-lab ## Compare pre-copy's freezes of 64 MB and of nothing, on virtual machines: build/bench-precopy.json
	$(GO) run ./packaging
	$(GO) build -o build/bin/bench-precopy ./lab/bench/precopy
	build/bin/bench-precopy

bench-overhead: build bootstrap-lab ## Compare Redis in a pod with a bare process: build/bench-overhead.json
	$(GO) build -o build/bin/bench-overhead ./lab/bench/overhead
	build/bin/bench-overhead

bench-plan: bootstrap-go ## Plan a pool of 10,000 hosts and 100,000 pods: build/bench-plan.json
	CGO_ENABLED=0 $(GO) build -o build/bin/bench-plan ./orchestrator/plan/bench
	build/bin/bench-plan

bench-fleet: bootstrap-go ## Let 10,000 simulated agents report to one controller: build/bench-fleet.json
	CGO_ENABLED=0 $(GO) build -o build/bin/bench-fleet ./orchestrator/fleetbench
	build/bin/bench-fleet

bench-shim: build bootstrap-shim ## Compare the shim with a direct connection, HAProxy and nginx with Lua: build/bench-shim.json
	CGO_ENABLED=0 $(GO) build -o build/bin/bench-shim ./shim/bench
	build/bin/bench-shim

clean: ## Remove what was built
	rm -rf build
