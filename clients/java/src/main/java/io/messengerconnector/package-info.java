/**
 * Sends Facebook Messenger messages through messenger-connector: {@link
 * io.messengerconnector.MessengerClient} makes the calls, with the messages of {@code
 * io.messengerconnector.v1}.
 */
package io.messengerconnector;
