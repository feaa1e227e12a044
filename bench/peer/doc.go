// Package peer gathers Apache Kafka and says how to run it, so that the
// comparison can put it beside Tidewater on the same machine. It starts nothing
// but Maven: processes belong to the caller.
//
// Kafka comes from Maven Central, as the jars of the versions in pom.xml, into a
// directory outside the repository; Maven's own settings (mirrors, proxies)
// apply. It needs a Java runtime and Maven: on Debian and Ubuntu
// `apt-get install default-jre-headless maven`.
//
// A node is broker and controller in one process (KRaft), with Kafka's default
// heap and collector and its default settings, but for what its properties say.
package peer
