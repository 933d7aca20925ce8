"""The unmodified `tfy` command line tool and the `truefoundry_sdk` client, against the gateway on loopback."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from conftest import PATIENCE_S, PROVIDER_KEY, Gateway

pytest.importorskip("truefoundry_sdk")

from truefoundry_sdk import (  # noqa: E402
    Permissions,
    TeamManifest,
    TrueFoundry,
    VirtualAccountManifest,
)
from truefoundry_sdk.core.api_error import ApiError  # noqa: E402

# `tfy` needs seconds to start, and several of its runs are one test.
pytestmark = pytest.mark.timeout(600)

TFY = pathlib.Path(sys.executable).parent / "tfy"

NOUNS = ("team", "provider", "virtual-account")

TEAM = """
type: team
name: research
description: Research and prototypes
members: [ada@example.com]
managers: [root@example.com]
tags:
  cost-center: "17"
"""

ACCOUNT = """
type: provider-account/openai
name: applied
base_url: http://127.0.0.1:9/v1
auth_data:
  type: api-key
  api_key: %s
integrations:
  - type: integration/model/openai
    name: small
    model_id: up-small
    model_types: [chat]
  - type: integration/model/openai
    name: large
    model_id: up-large
    model_types: [chat]
    authorized_subjects: [user:ada@example.com]
collaborators:
  - subject: user:root@example.com
    role_id: provider-account-manager
  - subject: team:research
    role_id: provider-account-access
"""

VIRTUAL_ACCOUNT = """
type: virtual-account
name: search-bot
expiration_date: "2999-01-31"
tags:
  app: search
permissions:
  - resource_fqn: "%s:openai:applied"
    resource_type: provider-account
    role_id: provider-account-access
  - resource_fqn: "%s:openai:main:model:m"
    resource_type: provider-integration
    role_id: provider-integration-access
"""


@pytest.fixture
def house(provider):
    """A gateway with an administrator, a member and a provider account."""
    gateway = Gateway()
    try:
        gateway.add_account("main", provider.base_url)
        gateway.admin("model", "add", "main/m", "--model-id", "up-model")
        gateway.admin("user", "create", "root@example.com", "--role", "admin")
        gateway.root = gateway.admin("token", "create", "--user", "root@example.com", "--name", "root")
        gateway.ada = gateway.add_user("ada@example.com", "main")
        gateway.tenant = gateway_tenant(gateway)
        yield gateway
    finally:
        gateway.close()


def gateway_tenant(gateway):
    rows = json.loads(gateway.admin("--output", "json", "provider", "list"))
    return rows[0]["fqn"].split(":")[0]


def tfy(gateway, *arguments, token=None, check=True, home=None):
    """Runs `tfy`; its output of both kinds as one text without line breaks, which it sets by the terminal's width."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home or gateway.folder),
        "COLUMNS": "400",
        "NO_COLOR": "1",
        "no_proxy": "127.0.0.1",
    }
    if token is not None:
        environment |= {"TFY_HOST": gateway.url, "TFY_API_KEY": token}
    done = subprocess.run(
        [TFY, *arguments], capture_output=True, text=True, timeout=3 * PATIENCE_S, stdin=subprocess.DEVNULL,
        env=environment,
    )  # fmt: skip
    text = " ".join((done.stdout + done.stderr).split())
    if check:
        assert done.returncode == 0, f"tfy {arguments}: {text}\n{gateway.log()}"
    else:
        assert done.returncode != 0, f"tfy {arguments}: {text}"
    return text


def manifests(gateway):
    """The three manifests as files, in the order in which they depend on each other."""
    texts = {
        "research": ("team", TEAM),
        "applied": ("provider-account/openai", ACCOUNT % PROVIDER_KEY),
        "search-bot": ("virtual-account", VIRTUAL_ACCOUNT % (gateway.tenant, gateway.tenant)),
    }
    files = []
    for name, (kind, text) in texts.items():
        file = gateway.folder / f"{name}.yaml"
        file.write_text(text)
        files.append((name, kind, file))
    return files


def listed(gateway, *noun):
    return gateway.admin("--output", "json", *noun, "list")


def test_apply_dry_run_and_delete_each_kind(house):
    before = [listed(house, noun) for noun in NOUNS]
    files = manifests(house)
    # One run each: the tool takes seconds to start.
    every = [word for _, _, file in files for word in ("-f", str(file))]
    # A dry run sends each by itself: what another one would make is not there yet.
    tried = tfy(house, "apply", *every[:2], "--dry-run", "--show-diff", token=house.root)
    assert tried.count("[Dry Run]") >= 1 and "No changes detected" not in tried, tried
    assert [listed(house, noun) for noun in NOUNS] == before, "a dry run made something"

    applied = tfy(house, "apply", *every, token=house.root)
    for name, kind, _ in files:
        assert f"Successfully configured manifest {name} of type {kind}" in applied, applied
    again = tfy(house, "apply", *every, "--dry-run", "--show-diff", token=house.root)
    for name, kind, _ in files:
        assert f"No changes detected for {name} ({kind})" in again, again

    for _, _, file in files:
        text = file.read_text().replace("prototypes", "papers").replace("up-large", "up-huge")
        file.write_text(text.replace("app: search", "app: find"))
    differs = tfy(house, "apply", *every, "--dry-run", "--show-diff", token=house.root)
    assert "No changes detected" not in differs, differs
    for _, _, file in reversed(files):
        tfy(house, "delete", "-f", str(file), token=house.root)
    name, _, file = files[0]
    gone = tfy(house, "delete", "-f", str(file), token=house.root, check=False)
    assert name in gone, gone
    assert [listed(house, noun) for noun in NOUNS] == before
    assert PROVIDER_KEY not in house.log()


MODEL = "{type: integration/model/%s, name: m, model_id: up, model_types: [chat]%s}"
# Type, further fields, kind of its models, further fields of those.
TYPES = [
    ("anthropic", "auth_data: {type: api-key, api_key: %s}", "anthropic", ""),
    (
        "azure-openai",
        "azure_endpoint: https://r.openai.azure.com\nauth_data: {type: client-secret, tenant_id: t, client_id: c, client_secret: %s}",
        "azure-openai",
        ", api_version: v1",
    ),
    (
        "aws-bedrock",
        "region: us-east-1\nauth_data: {type: access-key-based, access_key_id: AKIA1, secret_access_key: %s}",
        "bedrock",
        "",
    ),
    ("google-gemini", "auth_data: {type: api-key, apiKey: %s}", "gemini", ""),
    (
        "google-vertex",
        "region: us\nproject_id: p\nauth_data:\n  type: key-file\n  key_file_content:\n    client_email: a@b.c\n"
        "    private_key: %s\n    token_uri: https://oauth2.googleapis.com/token",
        "vertex",
        "",
    ),
    ("ollama", "auth_data: {custom_host: 'http://10.0.0.1:11434/%s'}", "ollama", ""),
    (
        "self-hosted-model",
        "",
        "self-hosted-model",
        ", hosted_model_name: up, url: 'http://10.0.0.2/v1', model_server: vllm-openai,"
        " auth_data: {type: basic-auth, username: u, password: %s}",
    ),
    ("groq", "auth_data: {type: api-key, api_key: %s}", "groq", ""),
]


def test_apply_of_every_type_of_provider(house):
    files, names = [], []
    for word, fields, kind, of_model in TYPES:
        model = MODEL % (kind, of_model)
        if word == "self-hosted-model":
            model = model.replace(" model_id: up,", "")
        text = f"type: provider-account/{word}\nname: {word}\n{fields}\nintegrations:\n  - {model}\n"
        file = house.folder / f"{word}.yaml"
        file.write_text(text.replace("%s", "x" if word == "ollama" else PROVIDER_KEY))
        files += ["-f", str(file)]
        names.append(word)
    applied = tfy(house, "apply", *files, token=house.root)
    for word in names:
        assert f"Successfully configured manifest {word} of type provider-account/{word}" in applied, applied
    again = tfy(house, "apply", *files, "--dry-run", "--show-diff", token=house.root)
    for word in names:
        assert f"No changes detected for {word} (provider-account/{word})" in again, again
    for file in files[1::2]:
        tfy(house, "delete", "-f", file, token=house.root)
    assert PROVIDER_KEY not in house.log()


def test_apply_of_several_documents(house):
    everything = house.folder / "everything.yaml"
    # The virtual account first: what it needs is made before it all the same.
    texts = [file.read_text() for _, _, file in reversed(manifests(house))]
    everything.write_text("---".join(texts))
    applied = tfy(house, "apply", "-f", str(everything), token=house.root)
    assert applied.count("Successfully configured manifest") == 3, applied
    again = tfy(house, "apply", "-f", str(everything), token=house.root)
    assert again.count("Successfully configured manifest") == 3, again
    accounts = json.loads(listed(house, "provider"))
    assert [account["name"] for account in accounts] == ["applied", "main"]


def test_refusals_reach_the_user(house):
    name, _, file = manifests(house)[0]
    bad = house.folder / "bad.yaml"
    bad.write_text(file.read_text() + "colour: red\n")
    refused = tfy(house, "apply", "-f", str(bad), token=house.root, check=False)
    assert "colour" in refused and "Failed to apply" in refused, refused
    # A member is no administrator, and a token that is none is none.
    refused = tfy(house, "apply", "-f", str(file), token=house.ada, check=False)
    assert "dministrator" in refused, refused
    refused = tfy(house, "apply", "-f", str(file), token=house.root[:-1] + "~", check=False)
    assert "Invalid or expired API token" in refused, refused
    assert json.loads(listed(house, "team")) == []


def test_login(house, tmp_path):
    said = tfy(house, "login", "--host", house.url, "--api-key", house.root, home=tmp_path)
    assert "root@example.com" in said, said
    kept = json.loads((tmp_path / ".truefoundry" / "credentials.json").read_text())
    assert kept["access_token"] == house.root and kept["host"].rstrip("/") == house.url
    # The kept login is used by later commands.
    file = manifests(house)[0][2]
    tfy(house, "apply", "-f", str(file), home=tmp_path)
    tfy(house, "logout", home=tmp_path)
    tfy(house, "login", "--host", house.url, "--api-key", "tfy_pat_wrong", home=tmp_path, check=False)


@pytest.fixture
def client(house):
    return TrueFoundry(base_url=house.url, api_key=house.root)


def refusal(call):
    with pytest.raises(ApiError) as caught:
        call()
    body = caught.value.body
    assert body["message"] if isinstance(body, dict) else body.message, body
    return caught.value.status_code


def test_lists_end(house, client):
    for at in range(5):
        house.admin("user", "create", f"u{at}@example.com")
        house.admin("team", "create", f"team-{at}")
        house.admin("virtual-account", "create", f"app-{at}")
    users = [user.email for user in client.users.list(limit=3)]
    assert users == sorted(["ada@example.com", "root@example.com", *(f"u{at}@example.com" for at in range(5))])
    assert [team.manifest.name for team in client.teams.list(limit=2)] == [f"team-{at}" for at in range(5)]
    accounts = list(client.virtual_accounts.list(limit=2))
    assert [account.manifest.name for account in accounts] == [f"app-{at}" for at in range(5)]
    assert [one.id for one in client.virtual_accounts.list(name_search_query="app-3")] == ["app-3"]
    # One's own tokens, without a secret in them.
    rows = list(client.personal_access_tokens.list(limit=1))
    assert [row.manifest.name for row in rows] == ["root"]
    assert house.root.rsplit("_")[-1] not in str(rows)


def test_users(house, client):
    client.users.pre_register_users(email="bob@example.com")
    assert refusal(lambda: client.users.pre_register_users(email="bob@example.com")) == 409
    client.users.update_roles(email="bob@example.com", roles=["tenant-admin"])
    bob = client.users.get("bob@example.com").data
    assert bob.roles == ["tenant-admin"] and bob.active
    client.users.deactivate(email="bob@example.com")
    assert not client.users.get("bob@example.com").data.active
    client.users.activate(email="bob@example.com")
    permissions = client.users.get_permissions("ada@example.com").data
    assert {(one.resource_id, one.role_id) for one in permissions} >= {("main", "provider-account-access")}
    assert client.users.get_resources("ada@example.com").data
    assert client.users.get_teams("ada@example.com").data == []
    # The link is in the answer; this SDK reads none of it. Who is no user yet becomes one.
    client.users.invite_user(email="eve@example.com", accept_invite_client_url="http://127.0.0.1/")
    assert client.users.get("eve@example.com").data.roles == ["tenant-member"]
    assert refusal(
        lambda: client.users.invite_user(email="no address", accept_invite_client_url="http://127.0.0.1/")
    ) == 422
    client.users.delete("eve@example.com")
    client.users.delete("bob@example.com")
    assert refusal(lambda: client.users.get("bob@example.com")) == 404


def test_teams(house, client):
    manifest = TeamManifest(name="research", members=["ada@example.com"], managers=["root@example.com"])
    tried = client.teams.create_or_update(manifest=manifest, dry_run=True)
    assert tried.data.manifest.name == "research"
    assert list(client.teams.list()) == []
    made = client.teams.create_or_update(manifest=manifest).data
    assert client.teams.get(made.id).data.manifest.members == ["ada@example.com"]
    assert [one.subject_id for one in client.teams.list_members(made.id)] == ["ada@example.com"]
    assert [one.subject_id for one in client.teams.list_managers(made.id)] == ["root@example.com"]
    house.admin("grant", "team:research", "provider-account-access", "main/m")
    (permission,) = client.teams.get_permissions(made.id).data
    assert (permission.resource_id, permission.role_id) == ("main/m", "provider-integration-access")
    (membership,) = client.users.get_teams("ada@example.com").data
    assert membership.team_name == "research"
    client.teams.delete(made.id)
    assert refusal(lambda: client.teams.get(made.id)) == 404


def manifest(house, name):
    return VirtualAccountManifest(
        name=name,
        permissions=[
            Permissions(
                resource_fqn=f"{house.tenant}:openai:main",
                resource_type="provider-account",
                role_id="provider-account-access",
            )
        ],
    )


def models(house, token):
    """The status of the list of models, asked with a token."""
    from openai import APIStatusError, OpenAI

    with OpenAI(base_url=f"{house.url}/api/llm", api_key=token, max_retries=0, timeout=PATIENCE_S) as openai:
        try:
            return [model.id for model in openai.models.list()]
        except APIStatusError as error:
            return error.status_code


def test_virtual_accounts(house, client):
    made = client.virtual_accounts.create_or_update(manifest=manifest(house, "search-bot")).data
    assert client.virtual_accounts.exists(name="search-bot").exists
    assert not client.virtual_accounts.exists(name="other-bot").exists
    assert client.virtual_accounts.get(made.id).data.manifest.permissions[0].role_id == "provider-account-access"

    # The first read shows the token, which works; there is no second one.
    first = client.virtual_accounts.get_token(made.id).token
    assert models(house, first) == ["main/m"]
    assert refusal(lambda: client.virtual_accounts.get_token(made.id)) == 410

    second = client.virtual_accounts.regenerate_token(made.id, grace_period_in_minutes=60).token
    assert models(house, first) == models(house, second) == ["main/m"]
    third = client.virtual_accounts.regenerate_token(made.id, grace_period_in_minutes=0).token
    assert models(house, second) == 401 and models(house, third) == ["main/m"]

    shown = client.virtual_accounts.get(made.id).data
    client.virtual_accounts.delete_jwt(made.id, shown.jwt_id)
    assert models(house, third) == 401

    # The documented rotation: the same under another name, then the old one goes.
    clone = client.virtual_accounts.create_or_update(
        manifest=shown.manifest.model_copy(update={"name": "search-bot-2"})
    ).data
    assert models(house, client.virtual_accounts.get_token(clone.id).token) == ["main/m"]
    client.virtual_accounts.delete(made.id)
    assert refusal(lambda: client.virtual_accounts.get(made.id)) == 404


def test_personal_access_tokens(house, client):
    # A personal token makes no others.
    assert refusal(lambda: client.personal_access_tokens.create(name="second")) in (401, 403)
    assert refusal(lambda: client.personal_access_tokens.create_for_user(name="new", user_email="ada@example.com")) in (
        401,
        403,
    )
    ada = TrueFoundry(base_url=house.url, api_key=house.ada)
    (row,) = ada.personal_access_tokens.list()
    ada.personal_access_tokens.delete(row.id)
    assert refusal(lambda: list(ada.users.list())) == 401


def test_what_a_member_may_not_see_is_not_there(house):
    ada = TrueFoundry(base_url=house.url, api_key=house.ada)
    assert [user.email for user in ada.users.list()] == ["ada@example.com"]
    assert refusal(lambda: ada.users.get("root@example.com")) == 404
    assert refusal(lambda: ada.users.get_permissions("root@example.com")) == 404
    assert refusal(lambda: ada.teams.create_or_update(manifest=TeamManifest(name="mine", members=[]))) == 403
    assert refusal(lambda: list(ada.virtual_accounts.list())) == 403
