# `sam build` calls these for the functions of template.yaml. What can be set, as `PROJECT=~/agents sam build`:
#   PROJECT         folder with langgraph.json
#   ARCHITECTURE    arm64 or x86_64, as the template's parameter of that name
#   PYTHON_VERSION  as the template's Runtime
PROJECT ?= examples/digest
ARCHITECTURE ?= arm64
PYTHON_VERSION ?= 3.13

.PHONY: build-ApiFunction build-StreamingFunction

build-ApiFunction:
	python3 scripts/package.py "$(ARTIFACTS_DIR)" --for zip --project "$(PROJECT)" \
		--architecture "$(ARCHITECTURE)" --python "$(PYTHON_VERSION)"

# The same code: a copy of what has just been built, if it has.
build-StreamingFunction:
	if [ -d "$(ARTIFACTS_DIR)/../ApiFunction/slackwater" ]; then \
		cp -a "$(ARTIFACTS_DIR)/../ApiFunction/." "$(ARTIFACTS_DIR)"; \
	else $(MAKE) --file "$(firstword $(MAKEFILE_LIST))" build-ApiFunction; fi
