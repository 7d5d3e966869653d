"use strict";
// review.csv, as RFC 4180 says: written so that no name can break out of its field, and read back.

const COLUMNS = ["sample_id", "file", "label", "decision", "new_label"];

function csvField(value) {
  const text = String(value);
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvText(rows) {
  return [COLUMNS, ...rows].map((row) => row.map(csvField).join(",") + "\r\n").join("");
}

// Rows of fields; throws an Error where a quote is never closed.
function csvRows(text) {
  const rows = [];
  let row = [], field = "", quoted = false, i = text.startsWith("\ufeff") ? 1 : 0;
  const endField = () => { row.push(field); field = ""; };
  const endRow = () => { endField(); if (row.length > 1 || row[0] !== "") rows.push(row); row = []; };
  for (; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      if (c !== '"') field += c;
      else if (text[i + 1] === '"') { field += '"'; i++; }
      else quoted = false;
    } else if (c === '"' && field === "") quoted = true;
    else if (c === ",") endField();
    else if (c === "\n" || c === "\r") { endRow(); if (c === "\r" && text[i + 1] === "\n") i++; }
    else field += c;
  }
  if (quoted) throw new Error("a quotation mark is never closed");
  if (field !== "" || row.length) endRow();
  return rows;
}
