"""What servers answer when they do not judge, and whom that concerns."""

from __future__ import annotations

import json

import pytest

from scorers.judge.problems import ANSWER_BYTES_MAX, Cause, Problem, answer_of

CHAT = "/chat/completions"
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "A"}}]}


def error(message, **more):
    """An error as OpenAI and most others write it."""
    return {"error": {"message": message, **more}}


def cause(status, body, path=CHAT):
    """The cause of the answer; None if it is a good one."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = answer_of(path, status, raw)
    return found.cause if isinstance(found, Problem) else None


# Each as its server's documentation or users report it: status, body, cause.
CASES = {
    # OpenAI
    "openai: rate limit": (429, error(
        "Rate limit reached for gpt-4o in organization org-1 on requests per min (RPM): Limit "
        "3, Used 3, Requested 1. Please try again in 20s.",
        type="requests", param=None, code="rate_limit_exceeded"), Cause.RATE),
    "openai: no quota": (429, error(
        "You exceeded your current quota, please check your plan and billing details.",
        type="insufficient_quota", param=None, code="insufficient_quota"), Cause.CREDIT),
    "openai: more tokens than a minute allows": (429, error(
        "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 41210.",
        type="tokens", param=None, code="rate_limit_exceeded"), Cause.LENGTH),
    "openai: too long": (400, error(
        "This model's maximum context length is 128000 tokens. However, your messages resulted "
        "in 250010 tokens.", type="invalid_request_error", param="messages",
        code="context_length_exceeded"), Cause.LENGTH),
    "openai: message too long": (400, error(
        "Invalid 'messages[1].content': string too long. Expected a string with maximum length "
        "10485760.", type="invalid_request_error", param="messages[1].content",
        code="string_above_max_length"), Cause.LENGTH),
    "openai: key": (401, error(
        "Incorrect API key provided: sk-no. You can find your API key at the account's page.",
        type="invalid_request_error", param=None, code="invalid_api_key"), Cause.KEY),
    "openai: country": (403, error(
        "Country, region, or territory not supported", type="request_forbidden",
        code="unsupported_country_region_territory"), Cause.KEY),
    "openai: model": (404, error(
        "The model `gpt-8` does not exist or you do not have access to it.",
        type="invalid_request_error", param=None, code="model_not_found"), Cause.MODEL),
    "openai: parameter": (400, error(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.", type="invalid_request_error", param="max_tokens",
        code="unsupported_parameter"), Cause.UNSUPPORTED),
    "openai: value": (400, error(
        "Unsupported value: 'temperature' does not support 0.5 with this model. Only the "
        "default (1) value is supported.", type="invalid_request_error", param="temperature",
        code="unsupported_value"), Cause.UNSUPPORTED),
    "openai: bad value": (400, error(
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 5.",
        type="invalid_request_error", param="temperature", code="decimal_above_max_value"),
        Cause.OTHER),
    "openai: flagged": (400, error(
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        type="invalid_request_error", code="invalid_prompt"), Cause.CONTENT),
    "openai: 500": (500, error(
        "The server had an error processing your request. Sorry about that!",
        type="server_error", param=None, code=None), Cause.AWAY),
    # Azure OpenAI
    "azure: filter": (400, error(
        "The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy.", param="prompt", code="content_filter", status=400,
        innererror={"code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": {"hate": {"filtered": True}}}), Cause.CONTENT),
    "azure: deployment": (404, {"error": {
        "code": "DeploymentNotFound", "message": "The API deployment for this resource does "
        "not exist. If you created the deployment within the last 5 minutes, please wait a "
        "moment and try again."}}, Cause.MODEL),
    "azure: key": (401, {
        "statusCode": 401, "message": "Access denied due to invalid subscription key or wrong "
        "API endpoint."}, Cause.KEY),
    "azure: busy": (429, error(
        "Requests to the ChatCompletions_Create Operation have exceeded token rate limit of "
        "your current pricing tier. Please retry after 6 seconds.", code="429"), Cause.RATE),
    "azure: path": (404, {"error": {"code": "404", "message": "Resource not found"}},
                    Cause.ADDRESS),
    # OpenRouter
    "openrouter: 429 in a 200": (200, {"error": {"code": 429, "message": "Rate limited"}},
                                 Cause.RATE),
    "openrouter: 502 in a 200": (200, {"error": {
        "code": 502, "message": "Provider returned error",
        "metadata": {"provider_name": "X", "raw": "oops"}}}, Cause.AWAY),
    "openrouter: a provider's 429 in a 400": (400, {"error": {
        "code": 400, "message": "Provider returned error", "metadata": {
            "raw": '{"error":{"message":"Rate limit exceeded: 20 per minute","code":429}}'}}},
        Cause.RATE),
    "openrouter: no credit": (402, error(
        "This request requires more credits, or fewer max_tokens.", code=402), Cause.CREDIT),
    "openrouter: no credit in a 200": (200, error("Insufficient credits", code=402),
                                       Cause.CREDIT),
    "openrouter: moderation": (403, {"error": {
        "code": 403, "message": "openai/gpt-4o requires moderation. Your input was flagged.",
        "metadata": {"reasons": ["hate"], "flagged_input": "..."}}}, Cause.CONTENT),
    "openrouter: no tools": (404, error(
        "No endpoints found that support tool use.", code=404), Cause.MODEL),
    "openrouter: no such model": (400, error("x/y is not a valid model ID", code=400),
                                  Cause.MODEL),
    "openrouter: tool choice": (404, error(
        "No endpoints found that support the provided 'tool_choice' value.", code=404),
        Cause.UNSUPPORTED),
    "openrouter: cold": (200, {"id": "g", "choices": []}, Cause.AWAY),
    "openrouter: failed midway": (200, {"choices": [{
        "finish_reason": "error", "message": {"content": ""},
        "error": {"code": 502, "message": "Upstream error"}}]}, Cause.AWAY),
    "openrouter: choices null": (200, {"id": "g", "choices": None}, Cause.AWAY),
    # LiteLLM
    "litellm: rate": (429, error(
        "litellm.RateLimitError: AzureException RateLimitError - retry in 2 seconds",
        type="throttling_error", param=None, code="429"), Cause.RATE),
    "litellm: rate in a 400": (400, error(
        "litellm.BadRequestError: Error code: 429 - too many", type=None, code="400"),
        Cause.RATE),
    "litellm: 5xx in a 400": (400, error(
        "litellm.BadRequestError: VertexAIException - status code: 503 - x", code="400"),
        Cause.AWAY),
    "litellm: context": (400, error(
        "litellm.ContextWindowExceededError: prompt is too long: 210000 tokens > 200000",
        type=None, param=None, code="400"), Cause.LENGTH),
    "litellm: policy": (400, error(
        "litellm.ContentPolicyViolationError: AzureException - the response was filtered",
        type="ContentPolicyViolationError", code="400"), Cause.CONTENT),
    "litellm: parameters": (400, error(
        "litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0.5. Only "
        "temperature=1 is supported.", type=None, code="400"), Cause.UNSUPPORTED),
    "litellm: budget": (400, error(
        "Budget has been exceeded! Current cost: 11, Max budget: 10", type="budget_exceeded",
        code="400"), Cause.CREDIT),
    "litellm: deployments": (429, error(
        "No deployments available for selected model, Try again in 5 seconds.", code="429"),
        Cause.RATE),
    "litellm: a connection behind it": (500, error(
        "litellm.InternalServerError: connection reset", code="500"), Cause.AWAY),
    # vLLM
    "vllm: too long": (400, {
        "object": "error", "message": "This model's maximum context length is 10000 tokens. "
        "However, you requested 10515 tokens (2323 in the messages, 8192 in the completion).",
        "type": "BadRequestError", "param": None, "code": 400}, Cause.LENGTH),
    "vllm: too long, newer": (400, error(
        "The decoder prompt (length 40000) is longer than the maximum model length of 32768.",
        type="BadRequestError", code=400), Cause.LENGTH),
    "vllm: no tools": (400, {
        "object": "error", "message": '"auto" tool choice requires --enable-auto-tool-choice '
        "and --tool-call-parser to be set", "type": "BadRequestError", "code": 400},
        Cause.SERVER),
    "vllm: no model": (404, {
        "object": "error", "message": "The model `x` does not exist.",
        "type": "NotFoundError", "param": None, "code": 404}, Cause.MODEL),
    "vllm: extra field": (400, {
        "object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), "
        "'msg': 'Extra inputs are not permitted'}]", "code": 400}, Cause.UNSUPPORTED),
    "vllm: not that path": (404, {"detail": "Not Found"}, Cause.ADDRESS),
    "vllm: key": (401, {"error": "Unauthorized"}, Cause.KEY),
    # llama.cpp
    "llama.cpp: loading": (503, {"error": {
        "code": 503, "message": "Loading model", "type": "unavailable_error"}}, Cause.AWAY),
    "llama.cpp: too long": (400, {"error": {
        "code": 400, "message": "request (4390 tokens) exceeds the available context size "
        "(4096 tokens), try increasing it", "type": "exceed_context_size_error",
        "n_prompt_tokens": 4390, "n_ctx": 4096}}, Cause.LENGTH),
    "llama.cpp: too long, with 500": (500, {"error": {
        "code": 500, "message": "Context size has been exceeded.", "type": "server_error"}},
        Cause.LENGTH),
    "llama.cpp: too long, with 200": (200, {"error": {
        "code": 400, "message": "the request exceeds the available context size.",
        "type": "exceed_context_size_error"}}, Cause.LENGTH),
    "llama.cpp: no tools": (500, {"error": {
        "code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}},
        Cause.SERVER),
    "llama.cpp: path": (404, {"error": {
        "code": 404, "message": "File Not Found", "type": "not_found_error"}}, Cause.ADDRESS),
    # Ollama
    "ollama: no tools": (400, error(
        "registry.ollama.ai/library/gemma3:4b does not support tools", type="api_error",
        param=None, code=None), Cause.MODEL),
    "ollama: no model": (404, error(
        "model \"llama9\" not found, try pulling it first", type="api_error"), Cause.MODEL),
    "ollama: an error that is a string": (404, {"error": "model 'llama9' not found"},
                                          Cause.MODEL),
    "ollama: busy": (503, error(
        "server busy, please try again.  maximum pending requests exceeded"), Cause.AWAY),
    "ollama: path": (404, b"404 page not found", Cause.ADDRESS),
    # Bedrock, as LiteLLM and other gateways pass it on
    "bedrock: tokens of a minute": (429, error(
        'litellm.RateLimitError: BedrockException - {"message":"Too many tokens, please wait '
        'before trying again."}', type="throttling_error", code="429"), Cause.RATE),
    "bedrock: tokens of a day": (429, error(
        "Too many tokens per day, please wait before trying again."), Cause.RATE),
    "bedrock: tokens of a minute in a 400": (400, error(
        "BedrockException: Too many tokens, please wait before trying again."), Cause.RATE),
    "cohere: too many tokens": (400, {
        "message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"},
        Cause.LENGTH),
    # LM Studio
    "lm studio: nothing loaded": (400, {"error": "No models loaded. Please load a model in the "
                                        "developer page."}, Cause.AWAY),
    "lm studio: crashed": (400, {"error": "The model has crashed without additional "
                                 "information. (Exit code: 6)"}, Cause.AWAY),
    "lm studio: too long": (400, {
        "error": "Trying to keep the first 5000 tokens when context the overflows. However, "
        "the model is loaded with context length of only 4096 tokens"}, Cause.LENGTH),
    # text-generation-inference
    "tgi: too long": (422, {
        "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. "
        "Given: 5000 `inputs` tokens and 512 `max_new_tokens`", "error_type": "validation"},
        Cause.LENGTH),
    "tgi: out of memory": (424, {
        "error": "Request failed during generation: Server error: CUDA out of memory",
        "error_type": "generation"}, Cause.AWAY),
    "vllm: only so much": (400, {
        "object": "error", "message": "You passed 5000 input tokens and requested 100 output "
        "tokens. However, the model's context length is only 4096 tokens", "code": 400},
        Cause.LENGTH),
    # others, and what stands before servers
    "groq: a full tier": (498, error("Flex tier capacity exceeded"), Cause.AWAY),
    "xai: no credit": (403, {
        "code": "The caller does not have permission to execute the specified operation",
        "error": "Your newly created team doesn't have any credits yet."}, Cause.CREDIT),
    "xai: all spent": (429, {
        "code": "Some resource has been exhausted", "error": "Your team has either used all "
        "available credits or reached its monthly spending limit."}, Cause.CREDIT),
    "moonshot: no credit": (429, error(
        "Your account is suspended, please check your plan and billing details",
        type="exceeded_current_quota_error"), Cause.CREDIT),
    "openrouter: a key's limit": (403, error(
        "Key limit exceeded (total limit). Manage it at the account's page", code=403),
        Cause.CREDIT),
    "azure: quota of an hour": (403, {
        "statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in "
        "01:00:00."}, Cause.RATE),
    "google: key": (400, [{"error": {
        "code": 400, "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT"}}], Cause.KEY),
    "google: too long": (400, [{"error": {
        "code": 400, "message": "The input token count (1200000) exceeds the maximum number of "
        "tokens allowed (1048576).", "status": "INVALID_ARGUMENT"}}], Cause.LENGTH),
    "a model that is loading, with 404": (404, error("model x is loading"), Cause.AWAY),
    "a model that is still loading, as text": (404, b"The model is still loading", Cause.AWAY),
    "google: quota of a minute": (429, [{"error": {
        "code": 429, "message": "You exceeded your current quota. Please retry in 32.6s.",
        "status": "RESOURCE_EXHAUSTED"}}], Cause.RATE),
    "anthropic: overloaded": (529, {"type": "error", "error": {
        "type": "overloaded_error", "message": "Overloaded"}}, Cause.AWAY),
    "anthropic: no credit": (400, {"type": "error", "error": {
        "type": "invalid_request_error", "message": "Your credit balance is too low to access "
        "the API."}}, Cause.CREDIT),
    "fastapi: field": (422, {"detail": [{
        "loc": ["body", "parallel_tool_calls"], "msg": "extra fields not permitted",
        "type": "value_error.extra"}]}, Cause.UNSUPPORTED),
    "cloudflare: 520": (520, b"error code: 520", Cause.AWAY),
    "cloudflare: 524": (524, b"<!DOCTYPE html><html><title>524: A timeout</title>", Cause.AWAY),
    "nginx: 502": (502, b"<html><head><title>502 Bad Gateway</title></head>", Cause.AWAY),
    "nginx: 413": (413, b"<html><title>413 Request Entity Too Large</title>", Cause.LENGTH),
    "nginx: 499": (499, b"", Cause.AWAY),
    "envoy: 503": (503, b"no healthy upstream", Cause.AWAY),
    "a page at 200: sign in": (200, b"<html><body>Sign in to continue</body></html>",
                               Cause.ADDRESS),
    "a page at 200: maintenance": (200, b"<!doctype html><h1>Down for maintenance</h1>",
                                   Cause.AWAY),
    "a page at 404": (404, b"<html>Not found</html>", Cause.ADDRESS),
    "a redirect": (307, b"", Cause.ADDRESS),
    "an empty 200": (200, b"", Cause.AWAY),
    "an empty 400": (400, b"", Cause.OTHER),
    "an empty 410": (410, b"", Cause.OTHER),
    "an empty 101": (101, b"", Cause.AWAY),
    "a status alone": (200, {"error": 429}, Cause.RATE),
    "a status alone, of an outage": (200, {"error": 503}, Cause.AWAY),
    "no more than that there is an error": (200, {"error": True}, Cause.OTHER),
    "blanks at 200": (200, b" \n\n ", Cause.AWAY),
    "half a JSON": (200, b'{"choices": [', Cause.AWAY),
    "a JSON cut in a text": (200, b'{"choices": [{"message": {"content": "and th', Cause.AWAY),
    "a JSON cut in a word": (200, b'{"choices": nul', Cause.AWAY),
    "prose at 200": (200, b"hello there", Cause.UNREADABLE),
    "a list at 200": (200, [1, 2, 3], Cause.UNREADABLE),
    "null at 200": (200, None, Cause.UNREADABLE),
    "another API": (200, {"status": "ok"}, Cause.ADDRESS),
    "nested without end": (200, b"[" * 200_000, Cause.UNREADABLE),
    "too large": (200, b"x" * (ANSWER_BYTES_MAX + 1), Cause.UNREADABLE),
    "too large, at 500": (500, b"x" * (ANSWER_BYTES_MAX + 1), Cause.AWAY),
    "an answer beside a null error": (200, {**ANSWER, "error": None}, None),
    "an answer": (200, ANSWER, None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_server_answers_has_the_cause_that_its_words_say(case):
    status, body, wanted = CASES[case]

    assert cause(status, body) == wanted


@pytest.mark.parametrize(
    ("path", "good", "empty"),
    [
        ("/responses", {"output": [{"type": "message"}]}, {"output": []}),
        ("/embeddings", {"data": [{"embedding": [1]}]}, {"data": None}),
        ("/moderations", {"results": [{"flagged": False}]}, {"results": []}),
    ],
)
def test_each_path_has_a_list_that_must_not_be_empty(path, good, empty):
    assert cause(200, good, path) is None
    assert cause(200, empty, path) is Cause.AWAY


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"status": "failed", "error": {"code": "server_error", "message": "x"}, "output": []},
         Cause.AWAY),
        ({"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "x"},
          "output": []}, Cause.RATE),
        ({"status": "failed", "error": {"code": "invalid_prompt", "message": "x"},
          "output": []}, Cause.CONTENT),
        ({"status": "failed", "error": None, "output": []}, Cause.AWAY),
        ({"status": "queued", "error": None, "output": []}, Cause.AWAY),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
          "output": [{"type": "reasoning"}]}, None),
    ],
)
def test_a_response_that_failed_says_so_in_its_body(body, wanted):
    assert cause(200, body, "/responses") == wanted


@pytest.mark.parametrize(
    ("message", "wait_s"),
    [("Please try again in 20s.", 20.0), ("Please retry after 6 seconds.", 6.0),
     ("try again in 250ms", 0.25), ("Please retry in 32.6s.", 32.6), ("later", None)],
)
def test_a_pause_that_only_the_body_asks_for_is_read(message, wait_s):
    found = answer_of(CHAT, 429, json.dumps(error(message)).encode())

    assert isinstance(found, Problem)
    assert found.wait_s == wait_s


def test_words_far_into_a_message_say_nothing_of_its_cause():
    echoed = error("bad request: " + "x" * 2000 + " rate limit, insufficient credits")

    assert cause(400, echoed) is Cause.OTHER
