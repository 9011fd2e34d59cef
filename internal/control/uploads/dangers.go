package uploads

import (
	"net/http"
	"slices"

	"github.com/dewar-security/dewar/internal/content"
	"github.com/dewar-security/dewar/internal/guard"
)

// danger is what the files layer does about one kind of finding.
type danger struct {
	name content.Danger
	// refuse is the default: what does harm to whoever opens, unpacks or
	// serves the file is refused, what honest files have as well is noted.
	refuse   bool
	status   int
	why, fix string
}

// dangers begin with the most telling: of several in one file the first is the
// reason of its refusal.
var dangers = []danger{
	{content.Disguised, true, 415, "A page, a program or a script calls itself an image or a document: it runs where the name is believed (CWE-434).", ""},
	{content.Polyglot, true, 422, "A file that is two things at once passes the check for one and is opened as the other.", ""},
	{content.HiddenScript, true, 422, "Script in an image's comment runs where a server includes the file, or a browser guesses its type.", ""},
	{content.TypeMismatch, false, 415, "Name, declared type and content do not agree: what the app decides by one of them is wrong.", ""},
	{content.Executable, false, 422, "A program, or a script that servers run.", ""},
	{content.Malformed, false, 422, "The file breaks its own format: programs that read it do so in their own ways.", ""},
	{content.SVGScript, true, 422, "SVG runs script in the site's name when it is opened (CWE-79).", ""},
	{content.ActiveHTML, false, 422, "A page runs script in the site's name when it is served (CWE-79).", ""},
	{content.XMLEntities, true, 422, "Entities make a parser read files of the server, or expand to gigabytes (CWE-611, CWE-776).", ""},
	{content.PDFScript, false, 422, "JavaScript in PDF runs in the reader of whoever opens it.", ""},
	{content.PDFLaunch, true, 422, "PDF that starts a program on the computer of whoever opens it.", ""},
	{content.PDFEmbedded, false, 422, "A file within PDF that nobody looked at.", ""},
	{content.Macro, false, 422, "Macros run with the rights of whoever opens the document.", ""},
	{content.External, false, 422, "The document loads a template or an object from elsewhere when it is opened, which can hold macros.", ""},
	{content.Embedded, false, 422, "An embedded object or control within a document can be a program.", ""},
	{content.Encrypted, false, 422, "Nobody can look into the file without its password, the scanner included.", ""},
	{content.Bomb, true, 413, "A few kilobytes that unpack to gigabytes fill memory and disk of whatever opens them (CWE-409).", "Raise max-unpacked, max-entries or max-nesting; the event says which was exceeded."},
	{content.ArchivePath, true, 422, "An entry called ../../app.py lands outside of the folder that the archive is unpacked into (CWE-22).", ""},
	{content.ArchiveLink, true, 422, "A link in an archive, followed by a file through it, writes outside of the folder (CWE-59).", ""},
	{content.ArchiveAmbiguous, true, 422, "Two readers see different entries in the archive: one of them looked at other files than the one that unpacks.", ""},
	{content.Unreadable, true, 422, "An archive that is damaged here, or made so that it looks damaged, may open elsewhere: nobody looked at what is in it.", ""},
	{content.ArchiveExecutable, false, 422, "A program within an archive.", ""},
	{content.Opaque, false, 422, "A format that is not looked into.", ""},
	{content.ImageSize, true, 413, "An image of a few kilobytes that decodes to gigabytes of pixels takes the app's memory (CWE-409).", "Raise max-pixels."},
}

// dangerReason is the reason of a danger: "file-macro".
func dangerReason(d content.Danger) string { return "file-" + string(d) }

func dangerOf(d content.Danger) *danger {
	for i := range dangers {
		if dangers[i].name == d {
			return &dangers[i]
		}
	}
	return &danger{name: d, refuse: true, status: http.StatusUnprocessableEntity}
}

// rank is a danger's place in the table.
func rank(d content.Danger) int {
	return slices.IndexFunc(dangers, func(e danger) bool { return e.name == d })
}

// dangerReasons documents the findings as reasons of the layer.
func dangerReasons() (out []guard.Reason) {
	for i := range dangers {
		d := &dangers[i]
		fix := d.fix
		if fix == "" {
			fix = "If such files are meant to come here, add \"" + string(d.name) + "\" to uploads.allow, or to files.allow of the route."
		}
		if !d.refuse {
			fix = "It is only noted by default; uploads.refuse makes it a refusal. " + fix
		}
		out = append(out, guard.Reason{Name: dangerReason(d.name), Why: d.why, Fix: fix})
	}
	return out
}

// dangerProblem says what is wrong with a list of dangers in the settings.
func dangerProblem(list []string) string {
	for _, s := range list {
		if !slices.ContainsFunc(dangers, func(d danger) bool { return string(d.name) == s }) {
			names := ""
			for i, d := range dangers {
				if i > 0 {
					names += ", "
				}
				names += string(d.name)
			}
			return "there is no danger \"" + s + "\": write one of " + names
		}
	}
	return ""
}
