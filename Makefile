# Every target is a script in tools/ or one cargo command; `make help` lists them.

.PHONY: help demo test bench bench-check build setup check fuzz fmt clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: build ## boot a real Debian in a VM, run commands in it, stop it
	@tools/demo.sh

test: build ## run all tests, those in VMs too
	@tools/test.sh

bench: build ## measure everything; ARGS="--help" lists what else it can do
	@tools/bench.sh $(ARGS)

bench-check: build ## fail when a boot executes 3 % more than the committed figures say
	@tools/bench.sh --check

build: setup ## build host-ctl and the guest's programs into target/release
	@tools/build.sh

setup: ## install what is missing; needs no network the second time
	@tools/setup.sh

check: ## formatting, lints, dependencies' licences and sources
	@tools/check.sh

fuzz: setup ## mutate what peers may send, for TIME seconds (60); TARGET picks one of fuzz/targets
	@tools/fuzz.sh

fmt: ## format the code
	@cargo fmt --all

clean: ## remove what was built; downloads stay in the cache
	@cargo clean
