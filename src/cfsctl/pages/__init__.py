"""Pages: reports drawn as HTML in one file, without scripts and without anything from elsewhere.

What a page says comes from `cfsctl.inspection.storage`, and much of it from outside: names of files and
refs, versions, subjects. It reaches a page only through templates that escape everything, as text or as the
quoted value of an attribute, never as a URL, a style or a script; and the page's own policy
(Content-Security-Policy) allows nothing but its one style sheet, named by its hash.
"""
