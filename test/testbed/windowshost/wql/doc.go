// Package wql is the part of the WMI Query Language (a dialect of SQL) that selects
// objects of one class:
//
//	SELECT * | property, ... FROM class [WHERE condition]
//
// A condition compares properties with literals by =, <>, !=, <, <=, >, >=, LIKE, IS
// [NOT] NULL and joins by AND, OR, NOT and parentheses. Strings stand in single or
// double quotes, with a backslash before a quote or a backslash; they compare without
// regard to case. Names and keywords may be in any case. LIKE knows %, _ and
// [sets].
//
// It must never take a query that WMI would refuse.
package wql
