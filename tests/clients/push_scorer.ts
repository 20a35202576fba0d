// Scorers for `braintrust push`: plain, with a library, and a judge's.
import { Levenshtein } from "autoevals";
import * as braintrust from "braintrust";
import { z } from "zod";

const project = braintrust.projects.create({ name: "pushed with typescript" });
const compared = z.object({ output: z.any(), expected: z.any() });
type Compared = z.infer<typeof compared>;

project.scorers.create({
  name: "Same",
  slug: "same",
  description: "Equal or not",
  parameters: compared,
  handler: ({ output, expected }: Compared) => {
    console.log(`comparing ${JSON.stringify(output)}`);
    return output === expected ? 1 : 0.25;
  },
  metadata: { sandbox: { time_s: 2 } },
});

project.scorers.create({
  name: "Near",
  slug: "near",
  parameters: compared,
  handler: async ({ output, expected }: Compared) => {
    const { score } = await Levenshtein({ output, expected });
    return { name: "near", score, metadata: { by: "Levenshtein" } };
  },
});

project.scorers.create({
  name: "Polite",
  slug: "polite",
  model: "gpt-4o-mini",
  useCot: true,
  messages: [{ role: "user", content: "Is this polite? {{output}}" }],
  choiceScores: { yes: 1, no: 0 },
});
