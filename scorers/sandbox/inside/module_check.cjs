// Finds the handler in a JavaScript module, its parameters, and the module's imports, without
// executing it. It is started with --expose-internals, because it uses node's own parser. It
// reads the source from descriptor 0 and writes one JSON object to descriptor 1.
'use strict';

const fs = require('node:fs');
const acorn = require('internal/deps/acorn/acorn/dist/acorn');

const HANDLER = 'handler';

function answer(code) {
  let body;
  try {
    ({ body } = acorn.parse(code, { ecmaVersion: 'latest', sourceType: 'module' }));
  } catch (error) {
    return { problem: `SyntaxError: ${error.message}` };
  }
  const imports = [...new Set(specifiers(body))];
  const exported = exportsOf(body);
  const functions = topLevelFunctions(body);
  if (exported.has(HANDLER)) return { imports, ...described(exported.get(HANDLER), functions) };
  if (exported.has('default')) return { imports, ...described(exported.get('default'), functions) };
  const name = functions.has(HANDLER) ? HANDLER : [...functions.keys()].at(-1);
  if (name === undefined) {
    return {
      imports,
      problem: 'There is no handler: export one, `export function handler({ output }) { ... }`',
    };
  }
  // `alias` is the function that must be exported as the handler.
  return { imports, alias: name, ...described(functions.get(name), functions) };
}

// The modules that are imported by a literal name.
function* specifiers(node) {
  if (Array.isArray(node)) {
    for (const each of node) yield* specifiers(each);
    return;
  }
  if (node === null || typeof node !== 'object' || typeof node.type !== 'string') return;
  const from = /^(Import|Export)/.test(node.type) ? node.source : null;
  if (from && typeof from.value === 'string') yield from.value;
  for (const each of Object.values(node)) {
    if (each !== null && typeof each === 'object') yield* specifiers(each);
  }
}

// Maps each exported name to its syntax node, or to null if it comes from another module.
function exportsOf(body) {
  const found = new Map();
  for (const node of body) {
    if (node.type === 'ExportDefaultDeclaration') found.set('default', node.declaration);
    if (node.type !== 'ExportNamedDeclaration') continue;
    for (const [name, value] of declared(node.declaration)) found.set(name, value);
    for (const each of node.specifiers) {
      found.set(each.exported.name ?? each.exported.value, node.source ? null : each.local);
    }
  }
  return found;
}

function topLevelFunctions(body) {
  const found = new Map();
  for (const node of body) {
    const statement = node.type === 'ExportNamedDeclaration' ? node.declaration : node;
    for (const [name, value] of declared(statement)) {
      // A name that comes twice counts at its last place in the source.
      if (isFunction(value)) found.delete(name), found.set(name, value);
    }
  }
  return found;
}

function* declared(statement) {
  if (statement?.type === 'FunctionDeclaration') yield [statement.id.name, statement];
  if (statement?.type === 'ClassDeclaration') yield [statement.id.name, statement];
  if (statement?.type !== 'VariableDeclaration') return;
  for (const each of statement.declarations) {
    if (each.id.type === 'Identifier') yield [each.id.name, each.init];
  }
}

function isFunction(node) {
  return /^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node?.type);
}

// The names that the handler takes from its one object, if its pattern lists them; null: all.
function described(node, functions) {
  const meant = node?.type === 'Identifier' ? functions.get(node.name) : node;
  if (!isFunction(meant)) return { parameters: null };
  const [first] = meant.params;
  if (first === undefined) {
    return { parameters: meant.type === 'ArrowFunctionExpression' ? [] : null };
  }
  const pattern = first.type === 'AssignmentPattern' ? first.left : first;
  if (pattern.type !== 'ObjectPattern') return { parameters: null };
  const names = pattern.properties.map(
    (each) => each.type === 'Property' && !each.computed && (each.key.name ?? each.key.value),
  );
  return { parameters: names.every((each) => typeof each === 'string') ? names : null };
}

fs.writeFileSync(1, JSON.stringify(answer(fs.readFileSync(0, 'utf8'))));
