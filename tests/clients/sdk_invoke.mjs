// Invoke a function with the Braintrust JavaScript SDK, in each way that it has.
//
//     node sdk_invoke.mjs PROJECT_NAME SLUG FUNCTION_ID
//
// prints {by_slug, by_id, as_scorer, streamed, final, raised}.

import * as braintrust from "braintrust";

const given = { input: "i", output: "four", expected: null };
const [project, slug, function_id] = process.argv.slice(2);

const stream = await braintrust.invoke({ function_id, input: given, stream: true });
const kinds = [];
const copy = stream.copy();
for await (const chunk of stream) kinds.push(chunk.type);

let raised = null;
try {
  await braintrust.invoke({ function_id, input: { ...given, output: null } });
} catch (error) {
  raised = String(error);
}

console.log(JSON.stringify({
  by_slug: await braintrust.invoke({ projectName: project, slug, input: given }),
  by_id: await braintrust.invoke({ function_id, input: given }),
  as_scorer: await braintrust.initFunction({ projectName: project, slug })(given),
  streamed: kinds,
  final: await copy.finalValue(),
  raised,
}));
