"""The templates are valid, closed by default, ask for no more than they need, and say what the settings understand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import templates
from slackwater.settings import Settings
from tests.deployment.templates import ROOT, TEMPLATES, Evaluation, load

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:database"
KEYS = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:keys"
USER = "arn:aws:rds-db:eu-central-1:123456789012:dbuser:cluster-ABC/slackwater"
URI = "postgresql://slackwater@database.example/slackwater"
CLOSED = {"DatabaseSecretArn": SECRET, "ApiKeysSecretArn": KEYS}

FUNCTIONS = ("ApiFunction", "StreamingFunction")
PACKAGING = (
    *("BuildMethod", "Dockerfile", "DockerContext", "DockerTag", "CodeUri", "Runtime", "Handler"),
    *("PackageType", "ImageConfig", "SnapStart", "AWS_LAMBDA_EXEC_WRAPPER"),
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_sam_accepts_the_template(template: str) -> None:
    sam = Path(sys.executable).with_name("sam")
    environ = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-central-1"}

    done = subprocess.run(
        [str(sam), "validate", "--lint", "--template", template],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("given", [{}, {"ThrottleRate": 7, "ThrottleBurst": 9}])
def test_every_stage_has_a_throttle(template: str, given: dict[str, int]) -> None:
    loaded = load(template)
    evaluation = Evaluation(loaded, **CLOSED, **given)
    stages = [each for each in loaded["Resources"].values() if each["Type"].endswith("::Stage")]

    assert stages
    for stage in stages:
        settings = evaluation.value(stage["Properties"]["DefaultRouteSettings"])
        assert settings["ThrottlingRateLimit"] == given.get("ThrottleRate", 200)
        assert settings["ThrottlingBurstLimit"] == given.get("ThrottleBurst", 400)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    ("given", "gateway", "setting"),
    [
        ("*", ["*"], None),
        (
            "https://a.example,https://b.example",
            ["https://a.example", "https://b.example"],
            "https://a.example,https://b.example",
        ),
    ],
)
def test_the_gateway_and_the_functions_let_the_same_pages_call(
    template: str, given: str, gateway: list[str], setting: str | None
) -> None:
    loaded = load(template)
    evaluation = Evaluation(loaded, DatabaseSecretArn=SECRET, Authorizer="iam", CorsAllowOrigins=given)
    cors = evaluation.value(loaded["Resources"]["HttpApi"]["Properties"]["CorsConfiguration"])
    variables = evaluation.value(loaded["Globals"]["Function"]["Environment"]["Variables"])

    assert cors["AllowOrigins"] == gateway
    assert "AllowCredentials" not in cors
    assert variables.get("SLACKWATER_CORS_ALLOW_ORIGINS") == setting


def without_packaging(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_packaging(item) for key, item in value.items() if key not in PACKAGING}
    if isinstance(value, list):
        return [without_packaging(item) for item in value if item not in PACKAGING]
    return value


def test_the_two_templates_differ_only_in_how_functions_are_packed() -> None:
    archive, image = (without_packaging(load(name)) for name in TEMPLATES)
    for template in (archive, image):
        del template["Parameters"]["Architecture"]["Description"]

    assert archive == image


def test_the_committed_template_of_the_image_is_the_one_that_is_generated() -> None:
    generated = templates.image(templates.ARCHIVE.read_text())
    assert templates.IMAGE.read_text() == generated, "run: python -m scripts.templates"


@pytest.mark.parametrize("times", [0, 2])
def test_nothing_is_generated_when_the_place_to_change_is_not_clear(times: int) -> None:
    old, _ = templates.CHANGES[-1]
    archive = templates.ARCHIVE.read_text().replace(old, old * times)

    with pytest.raises(ValueError, match="AWS_LAMBDA_EXEC_WRAPPER"):
        templates.image(archive)


# Who may call


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"ApiKeysSecretArn": KEYS}, None),
        ({"Authorizer": "iam"}, None),
        ({"Authorizer": "jwt", "JwtIssuer": "https://issuer.example", "JwtAudience": "slackwater"}, None),
        ({}, "Anybody could call the API"),
        ({"Authorizer": "none"}, "Anybody could call the API"),
        ({"Authorizer": "jwt", "JwtAudience": "slackwater"}, "needs JwtIssuer"),
        ({"Authorizer": "jwt", "JwtIssuer": "https://issuer.example"}, "needs JwtAudience"),
    ],
)
def test_it_is_never_open_to_the_world(template: str, given: dict[str, str], refusal: str | None) -> None:
    refusals = Evaluation(load(template), DatabaseSecretArn=SECRET, **given).refusals()

    assert [text for text in refusals if refusal is None or refusal not in text] == []
    assert bool(refusals) == (refusal is not None)


@pytest.mark.parametrize(
    ("given", "authorization", "key"),
    [
        ({"ApiKeysSecretArn": KEYS}, "NONE", "$default"),
        ({"Authorizer": "iam"}, "AWS_IAM", "$default"),
        ({"Authorizer": "jwt", "ApiKeysSecretArn": KEYS}, "JWT", "ANY /{proxy+}"),
    ],
)
def test_every_request_takes_one_route_with_the_chosen_authorizer(
    given: dict[str, str], authorization: str, key: str
) -> None:
    template = load()
    evaluation = Evaluation(template, DatabaseSecretArn=SECRET, **given)

    routes = [
        evaluation.value(resource["Properties"])
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::ApiGatewayV2::Route"
        and evaluation.truth({"Condition": resource["Condition"]})
    ]

    assert [(route["RouteKey"], route["AuthorizationType"]) for route in routes] == [(key, authorization)]
    variables = template["Resources"]["ApiFunction"]["Properties"]["Environment"]["Variables"]
    assert evaluation.value(variables).get("SLACKWATER_AUTHORIZER") == given.get("Authorizer")


@pytest.mark.parametrize("given", [{"Authorizer": "iam"}, {"Authorizer": "jwt"}])
def test_the_function_url_is_public_only_if_the_function_itself_asks_for_keys(given: dict[str, str]) -> None:
    template = load()
    url = template["Resources"]["StreamingUrl"]["Properties"]
    variables = template["Resources"]["StreamingFunction"]["Properties"]["Environment"]["Variables"]
    open_to_all = [
        resource
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Permission" and resource["Properties"]["Principal"] == "*"
    ]
    without = Evaluation(template, Streaming="yes", DatabaseSecretArn=SECRET, **given)
    keys = Evaluation(template, Streaming="yes", **CLOSED, **given)

    assert without.value(url)["AuthType"] == "AWS_IAM"
    assert without.value(variables)["SLACKWATER_AUTHORIZER"] == "iam"
    assert keys.value(url)["AuthType"] == "NONE"
    assert "SLACKWATER_AUTHORIZER" not in keys.value(variables)
    assert open_to_all
    for permission in open_to_all:
        assert keys.truth({"Condition": permission["Condition"]})
        assert not without.truth({"Condition": permission["Condition"]})


# What they may do


def statements(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    evaluation = Evaluation(template, **CLOSED)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::IAM::Role":
            for policy in resource["Properties"]["Policies"]:
                yield from evaluation.value(policy)["PolicyDocument"]["Statement"]


def test_policies_name_what_they_are_for() -> None:
    found = list(statements(load()))

    assert len(found) > 5
    for statement in found:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions), statement
        # X-Ray knows no resources.
        assert statement["Resource"] != "*" or {action.partition(":")[0] for action in actions} == {"xray"}


def test_only_the_secrets_that_were_named_may_be_read() -> None:
    template = load()

    def secrets(**given: str) -> list[Any]:
        role = template["Resources"]["FunctionRole"]["Properties"]["Policies"][0]["PolicyDocument"]
        return [
            resource
            for statement in Evaluation(template, **given).value(role)["Statement"]
            if statement["Action"] == "secretsmanager:GetSecretValue"
            for resource in statement["Resource"]
        ]

    assert secrets(**CLOSED) == [SECRET, KEYS]
    assert secrets(DatabaseSecretArn=SECRET, Authorizer="iam") == [SECRET]
    assert secrets(DatabaseUserArn=USER, DatabaseUri=URI, Authorizer="iam") == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_gateway_is_served_with_a_bucket_and_the_function_may_use_that_one(function: str) -> None:
    template = load()
    given = {**CLOSED, "FilesBucket": "our-files"}
    variables = variables_of(template, function, **given)
    role = template["Resources"]["FunctionRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    allowed = {
        action: statement["Resource"]
        for statement in Evaluation(template, **given).value(role)["Statement"]
        if isinstance(statement["Action"], list)
        for action in statement["Action"]
    }

    assert variables["SLACKWATER_GATEWAY"] == "true"
    assert variables["SLACKWATER_BLOBS"] == "s3://our-files/files"
    bucket = "arn:${AWS::Partition}:s3:::${FilesBucket}"
    assert allowed["s3:PutObject"] == allowed["s3:DeleteObject"] == {"Fn::Sub": f"{bucket}/files/*"}
    assert allowed["s3:ListBucketMultipartUploads"] == {"Fn::Sub": bucket}
    assert not {
        name for name in variables_of(template, function, **CLOSED) if "BLOBS" in name or "GATEWAY" in name
    } - {"SLACKWATER_GATEWAY_LIMIT_SECONDS"}


# Events


def test_a_message_stays_invisible_for_six_timeouts() -> None:
    template = load()
    longest = template["Parameters"]["Timeout"]["MaxValue"]

    assert template["Resources"]["Queue"]["Properties"]["VisibilityTimeout"] >= 6 * longest


def test_messages_that_fail_come_again_one_by_one_and_not_for_ever() -> None:
    resources = load()["Resources"]
    event = resources["ApiFunction"]["Properties"]["Events"]["HandOver"]["Properties"]
    redrive = resources["Queue"]["Properties"]["RedrivePolicy"]

    assert event["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert redrive["maxReceiveCount"] <= 5
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}


def test_what_is_asked_for_asynchronously_is_not_repeated_and_not_lost() -> None:
    config = load()["Resources"]["ApiFunction"]["Properties"]["EventInvokeConfig"]

    assert config["MaximumRetryAttempts"] == 0
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == {
        "Fn::GetAtt": ["DeadLetterQueue", "Arn"]
    }


def test_a_chain_of_hand_overs_is_not_cut() -> None:
    assert load()["Globals"]["Function"]["RecursiveLoop"] == "Allow"


def test_the_scheduled_run_is_one_run_however_often_it_is_delivered() -> None:
    text = load()["Resources"]["ScheduledRun"]["Properties"]["Target"]["Input"]["Fn::Sub"]

    assert '"id": "<aws.scheduler.execution-id>"' in text


def test_every_alarm_is_for_a_metric_that_there_is() -> None:
    known = {
        ("AWS/Lambda", "Errors"),
        ("AWS/Lambda", "Throttles"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        ("Slackwater", "runs_stuck"),
    }
    alarms = [
        resource["Properties"]
        for resource in load()["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]

    assert {(alarm["Namespace"], alarm["MetricName"]) for alarm in alarms} == known


# Settings


def variables_of(template: dict[str, Any], function: str, **given: str | int) -> dict[str, str]:
    everywhere = template["Globals"]["Function"]["Environment"]["Variables"]
    here = template["Resources"][function]["Properties"]["Environment"]["Variables"]
    evaluated = Evaluation(template, **given).value({**everywhere, **here})
    return {
        name: value
        if isinstance(value, str)
        else "https://sqs.eu-central-1.amazonaws.com/123456789012/q"
        if isinstance(value, dict)
        else str(value)
        for name, value in evaluated.items()
    }


def corners(template: dict[str, Any]) -> Iterator[dict[str, str | int]]:
    """The defaults, and each parameter at its ends."""
    yield {}
    for name, declared in template["Parameters"].items():
        ends = [declared[bound] for bound in ("MinValue", "MaxValue") if bound in declared]
        for value in [*ends, *declared.get("AllowedValues", [])]:
            yield {name: value}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_settings_accept_whatever_the_parameters_allow(
    function: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    template = load()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    fields = {f"SLACKWATER_{name.upper()}" for name in Settings.model_fields}

    for corner in corners(template):
        with monkeypatch.context() as patch:
            for name, value in variables_of(template, function, **{**CLOSED, **corner}).items():
                assert name in fields or not name.startswith("SLACKWATER_"), name
                patch.setenv(name, value)
            settings = Settings.load()
            settings.check_lambda()

        assert settings.handover == "sqs"


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"DatabaseSecretArn": SECRET}, False),
        ({"DatabaseSecretArn": SECRET, "DatabaseUri": URI}, False),
        ({"DatabaseUserArn": USER, "DatabaseUri": URI}, False),
        ({}, True),
        ({"DatabaseUri": URI}, True),
        ({"DatabaseUserArn": USER}, True),
        ({"DatabaseSecretArn": SECRET, "DatabaseUserArn": USER, "DatabaseUri": URI}, True),
    ],
)
def test_there_is_one_way_to_log_in_to_the_database(
    given: dict[str, str], refused: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    template = load()
    evaluation = Evaluation(template, Authorizer="iam", **given)

    assert bool(evaluation.refusals()) == refused
    if not refused:
        monkeypatch.chdir(tmp_path)
        for name, value in variables_of(template, "ApiFunction", Authorizer="iam", **given).items():
            monkeypatch.setenv(name, value)
        settings = Settings.load()
        assert settings.database_iam == ("DatabaseUserArn" in given)
        assert settings.has_database


@pytest.mark.parametrize(
    ("uri", "accepted"),
    [
        ("", True),
        (URI, True),
        ("postgresql://database.example:5433/slackwater?sslmode=require", True),
        ("postgresql://slackwater:secret@database.example/slackwater", False),
        ("mysql://database.example/slackwater", False),
    ],
)
def test_a_uri_with_a_password_is_no_parameter(uri: str, accepted: bool) -> None:
    pattern = load()["Parameters"]["DatabaseUri"]["AllowedPattern"]

    assert bool(re.fullmatch(pattern, uri)) == accepted


def test_every_parameter_is_explained() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text()

    for template in TEMPLATES:
        for name, declared in load(template)["Parameters"].items():
            assert f"`{name}`" in text, name
            assert declared["Description"].endswith("."), name


# sam local


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SAM's calls of SAM
@pytest.mark.parametrize("authorizer", ["none", "iam"])
def test_sam_local_start_api_finds_the_api(authorizer: str) -> None:
    from samcli.lib.providers.api_provider import ApiProvider
    from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

    stacks, _ = SamLocalStackProvider.get_stacks(
        str(ROOT / "template.yaml"), parameter_overrides={**CLOSED, "Authorizer": authorizer}
    )
    routes = ApiProvider(stacks, cwd=str(ROOT)).api.routes

    assert ("$default", "ApiFunction", "2.0") in {
        (route.path, route.function_name, route.payload_format_version) for route in routes
    }
