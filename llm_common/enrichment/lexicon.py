"""Words that tell names from labels, in English: data, no rules."""

from __future__ import annotations

from .wording import word_set

FUNCTION = word_set(
    "a about after all also although among an and any are as at be because been before "
    "below but by call can click contact did do does during each either every fax find "
    "follow for from full get had has have he her here hers him his how i if in into is "
    "it its just last learn like mail may meet meets met more most must my near no nor "
    "not now of off on once only or our out over per please read reach said says see she "
    "should since so some speak such than thank that the their them then there these they "
    "this those through to today together tomorrow toward under until up us use via view "
    "visit was we welcome were what when where which while who whom whose why will with "
    "within without write yes yesterday yet you your"
)
"""Never a part of a name, however they are written."""

TITLES = word_set(
    "mr mrs ms miss mx dr prof professor hon honorable sir dame rev reverend fr father "
    "sister rabbi sen senator rep representative congressman congresswoman congressmember "
    "delegate del assemblymember assemblyman assemblywoman councilmember councilman "
    "councilwoman councilor commissioner supervisor alderman alderwoman mayor governor "
    "gov president vice chair chairman chairwoman chairperson speaker secretary treasurer "
    "judge justice sheriff chief director deputy attorney general superintendent "
    "principal dean captain capt lt lieutenant col colonel sgt officer minister "
    "ambassador leader whip majority minority pro tem tempore state assembly district us "
    "federal county city town village former late incumbent candidate democrat republican "
    "independent democratic"
)
"""What stands before a person's name."""

SUFFIXES = word_set("jr sr ii iii iv v junior senior")
DEGREES = word_set("md phd esq jd mba cpa rn dds dvm do pe ma mpa mph")

LABELS = (
    TITLES
    | DEGREES
    | word_set(
        "account accounts address addresses admin administration administrative administrator "
        "affairs agenda agriculture aide aides alert alerts all annual appointment "
        "appointments appropriations archive archives article articles assistant associate "
        "bill bills bio biography birthday board body born box branch budget building "
        "business calendar call campaign capitol capital careers caucus cell chamber children "
        "clerk committee committees communications community company constituent constituents "
        "consultant contact contacts counsel court crime current customer customers date day "
        "days december january february march april june july august september october "
        "november monday tuesday wednesday thursday friday saturday sunday department "
        "departments desk details direct directions directory districts division downtown "
        "education elected election elections email e-mail emails emergency employees "
        "employment energy english environment ethics event events executive extension "
        "facebook faq fax feedback finance first floor form founded founder free gallery "
        "government head headquarters health hearing hearings help hispanic history home "
        "homepage hotline hours house housing human id images info information inquiries "
        "insurance issues item join judiciary key labor language latest law leadership "
        "legislation legislative legislator legislators legislature library line link links "
        "list local location locations login mailing main manager map media meeting meetings "
        "member members membership menu message mobile name names navigation news newsletter "
        "newsletters next no note notes notice notices number numbers occupation office "
        "officers offices official online open opening operations opinion organization other "
        "overview owner page pages parking party people permits person personal personnel "
        "phone phones photo photos policy political position post postal presenting press "
        "previous privacy products profile profiles program programs projects public "
        "publications purchasing quick ranking receptionist records region registration "
        "regional release releases report reporter reports request resources retail results "
        "role room rules sales schedule scheduler school search section senate senators "
        "services service session share sign site sitemap social source spanish special "
        "sponsor sports staff statement statements station status store suite subscribe "
        "summary support switchboard table team technology tel telephone term terms text time "
        "title toll topics top total transportation twitter type types updates upcoming user "
        "vcard video videos visitors volunteer votes voter voting voters vp ward warehouse "
        "washington water ways means web webmaster website welfare work works world year "
        "years youtube zip zone spokesperson spokeswoman spokesman fiscal instagram linkedin "
        "latino asian american americans black veterans women men youth green libertarian "
        "nonpartisan republicans democrats affiliation age gender male female university "
        "college degree married spouse religion background experience prior biographical "
        "headshot north south east west northern southern eastern western central united "
        "states america national international global subcommittee joint standing select "
        "oversight revenue taxation natural parks wildlife tourism commerce industry economic "
        "development planning land use utilities management homeland security military "
        "corrections criminal family families senior seniors aging child disabilities small "
        "rural urban constitution constitutional amendment amendments act resolution "
        "resolutions"
    )
)
"""What headings, fields and menus are made of; a name is what is left without them."""

NAMES_TOO = word_set(
    "street lake park bridge place way click press april august june may will bill dean "
    "judge major page ward green black west north day law key small court post young an "
    "do so he her van case guy banks church hall lane rose wood fields price best love"
)
"""Labels and other plain words that people are called by as well."""

STRONG_TITLES = word_set(
    "mr mrs ms miss mx dr prof professor hon sen senator rep representative congressman "
    "congresswoman delegate assemblymember assemblyman assemblywoman councilmember "
    "councilman councilwoman commissioner supervisor mayor governor gov judge justice "
    "sheriff rev"
)
"""A surname behind one of these is a person."""

THINGS = word_set(
    "street st avenue ave road rd boulevard blvd drive dr lane ln highway hwy parkway "
    "pkwy plaza square court circle place terrace way building tower hall room suite "
    "school schools university college academy institute hospital clinic church "
    "foundation association society museum park library airport bridge river lake "
    "mountain award prize act medal inc llc ltd company corporation bank press journal "
    "times post tribune gazette herald commission authority agency bureau council league "
    "alliance coalition union federation district county city township borough"
)
"""A run of capitals with one of these at its end is no person."""

BESIDE_NAMES = LABELS - (THINGS - word_set("room suite district"))
"""What may stand directly beside a name without being a part of it; streets and schools do not."""

ORGANISATION = word_set(
    "inc llc ltd limited company corporation corp co gmbh plc llp pllc group partners "
    "associates of department city county town village township university college school "
    "hospital bank church agency authority bureau commission council district board "
    "foundation association society institute center centre museum library club services "
    "solutions systems technologies industries enterprises holdings international tools "
    "plumbing hardware store shop restaurant hotel clinic dental law firm realty "
    "construction"
)
"""A key value with one of these names no person."""

LEGAL_FORMS = word_set(
    "inc incorporated llc ltd limited corp corporation co company gmbh plc llp pllc pc lp sa ag bv"
)

PARTICLES = word_set("de da do dos das del della der den di du el la le van von ter ten bin")

PLACE_BEGINNINGS = word_set("los las san santa new fort saint des baton salt corpus palo")
PLACE_ENDINGS = word_set(
    "city beach springs falls heights county rapids angeles vegas moines rouge worth"
)

PERSON_COLUMNS = word_set(
    "person people member legislator senator representative official officer author "
    "candidate employee contact doctor attorney teacher leader mayor governor player "
    "artist"
)
ORGANISATION_COLUMNS = word_set(
    "company companies organisation organization org firm business agency school city "
    "county town department institution site vendor employer club church hospital "
    "university college district municipality jurisdiction store product domain website "
    "url bill address country"
)
GIVEN_NAME = word_set("first firstname given givenname forename")
FAMILY_NAME = word_set("last lastname family familyname surname")
STATE_COLUMNS = word_set("state st jurisdiction province states")
