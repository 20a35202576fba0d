// The control of bare.py for JavaScript: runs an attack with nothing around it.
//
//     node bare.mjs ATTACK.mjs < record.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const given = JSON.parse(readFileSync(0, "utf8"));
const { handler } = await import(pathToFileURL(process.argv[2]).href);
const answer = await handler(given.record);
console.log(JSON.stringify({ answer, others: given.others.length }));
