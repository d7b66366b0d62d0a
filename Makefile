# Two commands matter: `make demo` and `make test`. Each sets itself up; nothing is installed outside target/.

PYTHON ?= python3
VENV   := target/venv
SAM    := $(VENV)/sam/bin/sam
PY     := $(VENV)/cloud/bin/python
# cargo-lambda and zig come with the lint tools; sam build looks for them on the PATH.
export PATH := $(abspath $(VENV)/lint/bin):$(abspath $(VENV)/sam/bin):$(PATH)
export SAM_CLI_TELEMETRY = 0
# A failed test says what it found. Its backtrace would only push that out of sight.
export RUST_BACKTRACE = 0
# The shell scripts of the forensic host.
SCRIPTS  := $(addprefix forensic-host/,forensic-host forensic-host.sh install-sift seal-image user-data mount-evidence)
# The operator's program. Every target but `build` and `cli` compiles with it: another feature set compiles the AWS SDK once more.
CLI      := target/cli/ec2-isolation
RESPONDER := ec2-isolation-responder
UNPROTECTED := The responder works, but has no termination protection, so a slip may delete it while no incident is open. Run make responder again, with the right cloudformation:UpdateTerminationProtection.
FEATURES := --features operator
# What a release has a program for. Apple's SDK is on a Mac only, so two are built there: on Apple silicon, which runs the first.
ON_LINUX := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu x86_64-pc-windows-gnu
ON_MAC   := aarch64-apple-darwin x86_64-apple-darwin
BUILT    := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help demo try build cli responder deploy status restore package test check audit lint advisories unit stack check-binary templates facts docs bench clean release tools

##@ Use

help: ## Show this text
	@awk -F ':.*## ' '/^##@ / { printf "%s%s\n", sep, substr($$0, 5); sep = "\n" } /^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools build ## Isolate and restore a fleet on the local AWS, with the real sam deploy
	@echo "== demo: compiling (minutes the first time)"
	@cargo test --quiet $(FEATURES) --test demo --no-run
	@cargo test --quiet $(FEATURES) --test demo

try: tools build ## Open a shell on the local AWS with two instances (README, "Try it")
	@cargo build --quiet $(FEATURES) --bin ec2-isolation
	@$(PY) scripts/try.py

build: tools ## Build the function for Lambda into .aws-sam/build
	@echo "== sam build (about 10 minutes the first time)"
	@$(SAM) build --config-file samconfig.toml --build-dir .aws-sam/next
# Renamed, not deleted: an interruption leaves no template in place whose function is gone already.
	@rm -rf .aws-sam/last; if [ -e .aws-sam/build ]; then mv .aws-sam/build .aws-sam/last; fi
	@mv .aws-sam/next .aws-sam/build && rm -rf .aws-sam/last && echo "built: .aws-sam/build"

# Linked for an old glibc, so that it runs wherever operators are, CloudShell (Amazon Linux 2023) included.
cli: $(VENV)/lint/ready ## Build the operator's program into target/cli/ec2-isolation
	@echo "== operator's program (2 minutes after make build, else about 10 the first time)"
	@cargo lambda build --quiet --release $(FEATURES) --bin ec2-isolation --target x86_64-unknown-linux-gnu.2.26 --lambda-dir target/cli --flatten ec2-isolation
	@mv target/cli/bootstrap $(CLI) && $(CLI) --version

$(CLI):
	@$(MAKE) --no-print-directory cli

responder: ## Prepare this account and Region; PARAMETERS="IncidentRole=true"
	@for word in $(PARAMETERS); do case "$$word" in *=*) ;; *) echo "$$word belongs to no parameter: write NAME=VALUE"; exit 1;; esac; done
	@$(MAKE) --no-print-directory build $(VENV)/aws/ready
	@$(SAM) deploy --stack-name $(RESPONDER) --template-file responder.yaml $(if $(PARAMETERS),--parameter-overrides $(PARAMETERS))
	@$(VENV)/aws/bin/aws cloudformation update-termination-protection --enable-termination-protection --stack-name $(RESPONDER) --output text || { echo '$(UNPROTECTED)'; exit 1; }
	@echo "$(RESPONDER) is there, with termination protection"

deploy: ## Deploy one stack to your account; STACK=incident-42 PARAMETERS="VpcId=… …"
	@test -n "$(STACK)" || { echo 'STACK is missing: one name per incident, as in STACK=incident-42'; exit 1; }
	@for word in $(PARAMETERS); do case "$$word" in *=*) ;; *) echo "$$word belongs to no parameter: write lists with commas and no blanks, as in CompromisedInstanceList=i-1,i-2"; exit 1;; esac; done
	@$(MAKE) --no-print-directory build
	@$(SAM) deploy --stack-name "$(STACK)" --parameter-overrides $(PARAMETERS)

status: ## Show what an incident holds isolated, and the next step; STACK=incident-42
	@test -n "$(STACK)" || { echo 'STACK is missing, as in STACK=incident-42'; exit 1; }
	@$(MAKE) --no-print-directory $(CLI)
	@$(CLI) status --stack "$(STACK)"

restore: ## Restore everything and delete the stack; STACK=incident-42
	@test -n "$(STACK)" || { echo 'STACK is missing, as in STACK=incident-42'; exit 1; }
	@$(MAKE) --no-print-directory $(CLI)
	@$(CLI) restore --stack "$(STACK)" --finish

package: ## Upload templates and programs to a bucket in the Region; BUCKET=my-bucket PARAMETERS="VpcId=…"
	@test -n "$(BUCKET)" || { echo 'BUCKET is missing: an S3 bucket in the region of the instances, as in BUCKET=my-bucket'; exit 1; }
	@for word in $(PARAMETERS); do case "$$word" in *=*) ;; *) echo "$$word belongs to no parameter: write NAME=VALUE"; exit 1;; esac; done
	@$(MAKE) --no-print-directory build $(CLI)
	@$(VENV)/sam/bin/python scripts/package.py "$(BUCKET)" $(CLI) $(PARAMETERS)

##@ Develop

test: tools ## Run everything that CI runs: check, unit, build, cli, check-binary, stack
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory cli
	@$(MAKE) --no-print-directory check-binary
	@$(MAKE) --no-print-directory stack
	@if [ -d .git ] && [ -n "$${CI:-}" ] && [ -n "$$(git status --porcelain)" ]; then echo "the tree is dirty:"; git status --short; exit 1; fi

check: tools ## Run the quick checks: format, lints, docs, scripts, templates, pages
	@echo "== check: rustfmt"
	@cargo fmt --check
	@echo "== check: clippy (compiles the AWS SDK the first time: minutes)"
	@cargo clippy --quiet $(FEATURES) --all-targets --test stack --test demo -- --deny warnings
	@echo "== check: docs"
	@RUSTDOCFLAGS="--deny warnings" cargo doc --quiet $(FEATURES) --no-deps --lib
	@echo "== check: scripts"
	@shellcheck --external-sources --source-path=forensic-host $(SCRIPTS) tests/*.sh tests/it/host/*.sh .ci/run
	@echo "== check: python"
	@ruff check --quiet
	@ruff format --check --quiet
	@echo "== check: templates"
	@$(PY) scripts/templates.py check
	@cfn-lint template.yaml responder.yaml incident.yaml host.yaml credentials.yaml
	@$(SAM) validate --lint --region us-east-1
	@$(PY) scripts/template.py | diff tests/template-facts.txt - || { echo 'What the templates allow has changed. If that is meant: make facts'; exit 1; }
	@$(PYTHON) scripts/draw.py check
	@echo "== check: pages (compiles the tests the first time: minutes)"
	@cargo test --quiet $(FEATURES) --test it -- house::docs house::prose

audit: tools $(VENV)/audit/ready target/tools/bin/cargo-deny ## Run the slow checks: checkov and cargo-deny
	@echo "== audit: checkov"
	@$(VENV)/audit/bin/checkov --framework cloudformation --file template.yaml responder.yaml incident.yaml host.yaml credentials.yaml --compact --quiet --skip-download
	@echo "== audit: cargo-deny"
	@target/tools/bin/cargo-deny --log-level error check bans licenses sources

lint: check audit ## Run check and audit

advisories: target/tools/bin/cargo-deny ## Look for known vulnerabilities in the dependencies; fetches the RustSec database
	@target/tools/bin/cargo-deny check advisories

unit: ## Run the unit and integration tests, without the local AWS
	@echo "== unit and integration tests (compiles the AWS SDK the first time: minutes)"
	@cargo test $(FEATURES)

stack: tools ## Run the tests of the deployed stack on the local AWS; needs make build
	@echo "== stack tests on the local AWS"
	@cargo test $(FEATURES) --test stack -- --test-threads=7
	@echo "== the demo: what a newcomer runs first must run"
	@cargo test --quiet $(FEATURES) --test demo

check-binary: ## Check that the built programs run on their targets; needs make build and cli
	@echo "== check of the built programs"
	@sh tests/check-binary.sh .aws-sam/build/IsolationFunction/bootstrap $(CLI)

templates: tools ## Weave forensic-host/ into template.yaml and cut the other templates out of it
	@$(PY) scripts/templates.py

facts: tools ## Write again what the templates allow: tests/template-facts.txt
	@$(PY) scripts/template.py > tests/template-facts.txt

docs: ## Draw the pictures in docs/ from their sources; needs graphviz
	@$(PYTHON) scripts/draw.py

bench: tools $(VENV)/bench/ready build ## Measure the function; QUICK=1 skips slow rows, PAGE=1 writes docs/measurements.md
	@echo "== bench: compiling (minutes the first time)"
	@cargo bench --quiet --profile dev $(FEATURES) --bench speed --no-run
	@cargo bench --quiet --profile dev $(FEATURES) --bench speed

clean: ## Remove what the SAM CLI built; target/ stays, since it took long to make
	@rm -rf .aws-sam target/demo

##@ Release

ifeq ($(shell uname -s),Darwin)
release: release-afresh $(addprefix release-,$(ON_MAC)) ## Build the files of a release into target/release-assets
	@$(PYTHON) scripts/release.py sums
else
release: release-afresh build release-sbom $(addprefix release-,$(ON_LINUX))
	@$(VENV)/sam/bin/python scripts/release.py function
	@$(PYTHON) scripts/release.py sums
	@echo "without $(ON_MAC): these need a Mac (.github/workflows/release.yml)"
endif

release-afresh:
	@rm -rf target/release-assets

release-x86_64-unknown-linux-gnu: cli
	@$(PYTHON) scripts/release.py program x86_64-unknown-linux-gnu $(CLI) $(CLI)

release-aarch64-unknown-linux-gnu: LINKED := cargo zigbuild --target aarch64-unknown-linux-gnu.2.26
release-x86_64-pc-windows-gnu: LINKED := cargo zigbuild --target x86_64-pc-windows-gnu
release-x86_64-pc-windows-gnu: ENDING := .exe
release-aarch64-unknown-linux-gnu release-x86_64-pc-windows-gnu: release-%: cli $(VENV)/release/ready
	@echo "== operator's program for $* (about 10 minutes the first time)"
	@rustup --quiet target add $*
	@PATH="$(abspath $(VENV)/release/bin):$$PATH" $(LINKED) --quiet --release $(FEATURES) --bin ec2-isolation
	@$(PYTHON) scripts/release.py program $* $(BUILT)/$*/release/ec2-isolation$(ENDING) $(CLI)

$(addprefix release-,$(ON_MAC)): release-%:
	@echo "== operator's program for $* (about 10 minutes the first time)"
	@rustup --quiet target add $*
	@cargo build --quiet --release $(FEATURES) --bin ec2-isolation --target $*
	@$(PYTHON) scripts/release.py program $* $(BUILT)/$*/release/ec2-isolation $(BUILT)/$(firstword $(ON_MAC))/release/ec2-isolation

release-sbom: target/tools/bin/cargo-cyclonedx
	@echo "== what is compiled in: CycloneDX"
	@PATH="$(abspath target/tools/bin):$$PATH" $(PYTHON) scripts/release.py sbom

tools: $(VENV)/cloud/ready $(VENV)/sam/ready $(VENV)/aws/ready $(VENV)/lint/ready target/tools/chromium/ready

# A test looks at the case file in a browser. Debian's Chromium is unpacked here, with the libraries that the system lacks, not installed.
# Where that is not to be had, the test says so.
CHROMIUM_IN := $(abspath target/tools/chromium)
APT         := apt-get -qq -o APT::Sandbox::User=root -o Dir::State::lists=$(CHROMIUM_IN)/lists
target/tools/chromium/ready:
	@mkdir -p $(@D)/lists/partial $(@D)/packages
	@if command -v chromium google-chrome >/dev/null || ! command -v apt-get dpkg-deb >/dev/null; then touch $@; exit; fi; \
	echo "== unpacking chromium"; cd $(@D)/packages && libraries=$$(echo $(CHROMIUM_IN)/usr/lib/$$(uname -m)-linux-gnu) && \
	{ $(APT) update && $(APT) download $$($(APT) --simulate install --no-install-recommends chromium | awk '/^Inst/ { print $$2 }') && \
	for package in *.deb; do dpkg-deb --extract "$$package" ..; done && \
	LD_LIBRARY_PATH=$$libraries:$$libraries/pulseaudio ../usr/lib/chromium/chromium --version; } || \
	{ rm -rf ../usr; echo "no chromium: the case file is not looked at in a browser"; }
	@rm -rf $(@D)/packages $(@D)/lists; touch $@

$(VENV)/cloud/ready: local-aws/requirements.txt
$(VENV)/sam/ready: local-aws/requirements-sam.txt
$(VENV)/aws/ready: local-aws/requirements-aws.txt
$(VENV)/lint/ready: local-aws/requirements-lint.txt
$(VENV)/audit/ready: local-aws/requirements-audit.txt
$(VENV)/bench/ready: benches/requirements.txt
$(VENV)/release/ready: local-aws/requirements-release.txt
$(VENV)/%/ready:
	@echo "== installing $* tools"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo 'Python 3.10 or newer is needed (set PYTHON=…)'; exit 1; }
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

target/tools/bin/cargo-deny:
	@echo "== compiling cargo-deny"
	@cargo install --quiet --locked --root target/tools cargo-deny@0.20.2

target/tools/bin/cargo-cyclonedx:
	@echo "== compiling cargo-cyclonedx"
	@cargo install --quiet --locked --root target/tools cargo-cyclonedx@0.5.9
