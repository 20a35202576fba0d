"""The grammar of filters and of SQL queries, for lark's LALR parser.

Operators from the loosest to the tightest: ternary, OR, AND, NOT, comparisons (which do not
chain), + and -, then * / and %, the sign, paths and calls. After a dot and before a parenthesis
a keyword is an ordinary name (metrics.end, contains(tags, 'x')); the contextual lexer tells the
two apart.
"""

from __future__ import annotations

GRAMMAR = r"""
filter: [expr]
items: item ("," item)*
order: sort_key ("," sort_key)*
source: name "(" argument ("," argument)* ")" [NAME]
sql: _SELECT items _FROM sql_source _rest
_rest: [_WHERE expr] [_ORDER _BY order] [_LIMIT NUMBER] [_OFFSET STRING]

sql_source: name "(" argument ("," argument)* ")" -> source
argument: expr | NAME ARROW expr
item: "*" -> star
    | expr [_AS name]
sort_key: expr [ASC | DESC] [NULLS NAME]

?expr: or_expr
    | or_expr QUESTION expr ":" expr -> ternary
?or_expr: and_expr (OR and_expr)*
?and_expr: not_expr (AND not_expr)*
?not_expr: comparison
    | NOT not_expr -> negation

?comparison: sum
    | sum COMPARISON sum -> compare
    | sum IS sum -> is_
    | sum IS NOT sum -> is_not
    | sum LIKE sum -> like
    | sum NOT LIKE sum -> like
    | sum MATCH sum -> match
    | sum NOT MATCH sum -> match
    | sum INCLUDES sum -> includes
    | sum NOT INCLUDES sum -> includes
    | sum IN options -> among
    | sum NOT IN options -> among
    | sum BETWEEN sum AND sum -> between
    | sum NOT BETWEEN sum AND sum -> between
    | ISNULL sum -> isnull
    | ISNOTNULL sum -> isnull

?options: "(" [expr ("," expr)*] ")" -> options
    | array

?sum: product
    | sum PLUS product -> arithmetic
    | sum MINUS product -> arithmetic
?product: sign
    | product STAR sign -> arithmetic
    | product OTHER_PRODUCT sign -> arithmetic
?sign: atom
    | MINUS sign -> negative

?atom: path
    | "(" expr ")" -> parentheses
    | STRING -> string
    | NUMBER -> number
    | TRUE -> true
    | FALSE -> false
    | NULL -> null
    | array
    | object
    | INTERVAL [MINUS] NUMBER NAME -> interval
    | INTERVAL STRING -> interval_text
    | CASE when+ [ELSE expr] END -> case
    | NAME "(" [expr ("," expr)*] ")" -> call

when: WHEN expr THEN expr
array: LSQB [expr ("," expr)*] "]"
object: LBRACE [pair ("," pair)*] "}"
pair: (STRING | QUOTED | NAME) ":" expr
path: (NAME | QUOTED) step*
step: "." (NAME | QUOTED) -> key
    | "[" [MINUS] NUMBER "]" -> index
?name: NAME | QUOTED

AND.2: /and\b/i
OR.2: /or\b/i
NOT.2: /not\b/i
IS.2: /is\b/i
IN.2: /in\b/i
LIKE.2: /i?like\b/i
MATCH.2: /match\b/i
INCLUDES.2: /(?:includes|contains)\b/i
BETWEEN.2: /between\b/i
ISNULL.2: /isnull\b/i
ISNOTNULL.2: /isnotnull\b/i
TRUE.2: /true\b/i
FALSE.2: /false\b/i
NULL.2: /null\b/i
INTERVAL.2: /interval\b/i
CASE.2: /case\b/i
WHEN.2: /when\b/i
THEN.2: /then\b/i
ELSE.2: /else\b/i
END.2: /end\b/i
_SELECT.2: /select\b/i
_FROM.2: /from\b/i
_WHERE.2: /where\b/i
_ORDER.2: /order\b/i
_BY.2: /by\b/i
_LIMIT.2: /limit\b/i
_OFFSET.2: /offset\b/i
_AS.2: /as\b/i
ASC.2: /asc\b/i
DESC.2: /desc\b/i
NULLS.2: /nulls\b/i

COMPARISON.2: "<!=>" | "<=>" | "<=" | ">=" | "<>" | "!=" | "<" | ">" | "="
ARROW.3: "=>"
PLUS: "+"
MINUS: "-"
STAR: "*"
OTHER_PRODUCT: "/" | "%"
QUESTION: "?"
LSQB: "["
LBRACE: "{"
NAME: /[A-Za-z_][A-Za-z0-9_]*/
NUMBER: /(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?/
STRING: /'(?:[^']|'')*'/
QUOTED: /"(?:[^"]|"")*"/

COMMENT: /--[^\n]*/
%ignore COMMENT
%ignore /[ \t\r\n\f]+/
"""
