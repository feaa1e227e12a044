# `make` alone prints the targets.
.DEFAULT_GOAL := help
GO ?= go
# One static binary; tests and linters take the packages as they were built for
# it, so that nothing is compiled twice. Only the race detector needs cgo.
export CGO_ENABLED = 0
export GOFLAGS := $(shell $(GO) env GOFLAGS) -trimpath
STATICCHECK_VERSION := v0.8.2
# Packages whose goroutines and locks are worth the race detector's price; the
# simulation has one goroutine.
RACE := ./broker/... ./tiering/... ./iceberg/... ./catalog/... ./readreplica/... ./internal/...

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

build: ## bin/tidewater, static
	$(GO) build -ldflags "-s -w" -o bin/tidewater ./cmd/tidewater

demo: build ## the main job, end to end, on embedded defaults (KEEP=1 leaves it running)
	$(GO) run ./demo -binary bin/tidewater $(if $(KEEP),-keep)

test: ## unit and integration tests and the simulation's first seeds; needs Go only
	$(GO) test -timeout 10m ./...

race: ## the same tests under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $$($(GO) list $(RACE) | grep -v /internal/sim)

sim: ## the simulation: make sim SEED=7 replays one, make sim SEEDS=5000 runs many on two cores
	$(GO) test -c -o bin/sim.test ./internal/sim
ifdef SEED
	cd internal/sim && ../../bin/sim.test -test.v -test.run 'TestSeed$$' -seed $(SEED)
else
	cd internal/sim && ../../bin/sim.test -test.timeout 24h -test.v -test.run TestSeeds -seeds $(or $(SEEDS),1000) -share 0/2 & first=$$!; \
	(cd internal/sim && ../../bin/sim.test -test.timeout 24h -test.v -test.run TestSeeds -seeds $(or $(SEEDS),1000) -share 1/2); second=$$?; \
	wait $$first && exit $$second
endif

planted: ## the simulation on builds that are broken on purpose: each fault and the seed that caught it
	@mkdir -p bin
	@$(GO) test -count=1 -v -run 'Planted|Caught' ./internal/sim >bin/planted.log 2>&1 || { cat bin/planted.log; exit 1; }
	@sed -n 's/.*planted: //p' bin/planted.log | awk -F'\t' '{ printf "%-52s seed %-3d %s\n", $$1, $$2, $$3 } END { print NR " planted faults, all caught" }'

fuzz: ## every fuzzer for TIME each (default 20s)
	./internal/lint/fuzz $(or $(TIME),20s)

lint: ## gofmt, vet, staticcheck, the tree's own rules
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'gofmt: format the files above'; exit 1; }
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION) ./...
	$(GO) test ./internal/lint

e2e: build ## the same road with kcat, librdkafka, the Java client, PyIceberg and DuckDB; Kafka's operator tools on three brokers
	./e2e/run
	./e2e/operator

docker-test: build ## the image and docker-compose.yml: up, restarts, a kill, log and table agree; needs Docker
	./e2e/docker

bench: build ## the figures in bench/README.md
	$(GO) run ./bench -binary bin/tidewater

bench-kafka: build ## Tidewater beside Apache Kafka in one run, with ratios (QUICK=1, ONLY=produce,latency)
	$(GO) run ./bench kafka -binary bin/tidewater $(if $(QUICK),-quick) $(if $(ONLY),-only $(ONLY))

harness: build ## real brokers under faults, needs root (NODES=3 TIME=5m SEED=1)
	@why=$$(harness/needs) || { echo "harness: $$why"; exit 1; }
	$(GO) build -o bin/harness ./harness
	PATH="$$PATH:/usr/sbin:/sbin" bin/harness -binary bin/tidewater -nodes $(or $(NODES),3) -time $(or $(TIME),5m) -seed $(or $(SEED),1)

clean: ## what make made
	rm -rf bin data

.PHONY: help build demo test race sim planted fuzz lint e2e docker-test bench bench-kafka harness clean
